"""Neighbour preservation against loops that take every pair and every item one by one."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.errors import TokenizerError
from tokenizer.quality import neighbours
from tokenizer.quality.neighbours import (
    chance_agreement,
    nearest_items,
    neighbour_figures,
    pair_hit_rate,
    prefix_agreement,
)


def random_pairs(generator: np.random.Generator, items: int, count: int) -> np.ndarray:
    return generator.integers(0, items, size=(count, 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(1, 40), st.integers(0, 10_000))
def test_agreement_and_its_chance_equal_a_slow_reference(items: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes, pairs = generator.integers(0, 3, size=(items, 3)), random_pairs(generator, items, count)
    kept = [(a, b) for a, b in pairs.tolist() if a != b]
    dealt = [(a, b) for (a, _), (_, b) in itertools.product(kept, kept) if a != b]
    for depth in (1, 2, 3):
        same = [codes[a, :depth].tolist() == codes[b, :depth].tolist() for a, b in kept]
        expected = sum(same) / len(kept) if kept else 0.0
        assert prefix_agreement(codes, pairs)[depth - 1] == pytest.approx(expected)
        by_chance = [codes[a, :depth].tolist() == codes[b, :depth].tolist() for a, b in dealt]
        expected = sum(by_chance) / len(dealt) if dealt else 0.0
        assert chance_agreement(codes, pairs)[depth - 1] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(1, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_hit_rate_without_ties_equals_a_full_ranking(items: int, count: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors, pairs = generator.normal(size=(items, 5)), random_pairs(generator, items, count)
    hits, kept = 0, 0
    for a, b in pairs.tolist():
        if a == b:
            continue
        cosine = [
            float(vectors[a] @ vectors[c] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[c]))
            for c in range(items)
        ]
        ranked = sorted((c for c in range(items) if c != a), key=lambda c: -cosine[c])
        kept += 1
        hits += b in ranked[:k]
    assert pair_hit_rate(vectors, pairs, k) == pytest.approx(hits / kept if kept else 0.0)


def test_equally_near_items_count_by_the_probability_of_being_listed() -> None:
    # item 0 has itself, one item in the same place (1), four a little further in one place (2-5), and one opposite (6)
    vectors = np.array([[1, 0], [2, 0], [1, 1], [2, 2], [3, 3], [4, 4], [-1, 0]], dtype=np.float32)
    assert pair_hit_rate(vectors, np.array([[0, 1]]), 1) == 1.0
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 1) == 0.0
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 3) == pytest.approx(2 / 4)
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 5) == 1.0
    assert pair_hit_rate(np.zeros((11, 2)), np.array([[0, 1]]), 5) == pytest.approx(5 / 10)


def test_hit_rate_in_small_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    vectors, pairs = generator.normal(size=(60, 4)), random_pairs(generator, 60, 200)
    whole = pair_hit_rate(vectors, pairs, 7)
    monkeypatch.setattr(neighbours, "SIMILARITY_ELEMENTS", 60 * 3)
    assert pair_hit_rate(vectors, pairs, 7) == pytest.approx(whole, abs=1e-12)
    assert 0 < whole < 0.5


def test_figures_tell_items_that_belong_together_from_any_two() -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 10)
    vectors = generator.normal(size=(20, 8))[group] + 0.3 * generator.normal(size=(200, 8))
    pairs = np.column_stack([np.arange(200), np.arange(200) // 10 * 10 + generator.integers(0, 10, 200)])
    codes = np.column_stack([group, np.arange(200) % 10])
    figures = neighbour_figures(vectors, vectors, codes, pairs, k=10)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["prefix_agreement"] == [1.0, 0.0]
    assert figures["prefix_agreement_chance"][0] == pytest.approx(9 / 199, abs=0.01)
    assert figures["hit_rate_vectors"] > 0.8 > 10 * figures["hit_rate_chance"]
    assert figures["pairs"] == int((pairs[:, 0] != pairs[:, 1]).sum())


def test_many_pairs_are_sampled_for_the_hit_rate_and_none_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    vectors, codes = generator.normal(size=(30, 4)), generator.integers(0, 3, size=(30, 2))
    monkeypatch.setattr(neighbours, "HIT_RATE_PAIRS", 12)
    figures = neighbour_figures(vectors, vectors, codes, random_pairs(generator, 30, 100))
    assert figures["hit_rate_pairs"] == 12 < figures["pairs"]
    assert neighbour_figures(vectors, vectors, codes, np.array([[3, 3]])) == {"pairs": 0}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (np.array([[0, 1], [2, 5]]), r"pair 1 is \[2, 5\]; there are 4 items"),
        (np.array([[-1, 1]]), "pair 0"),
        (np.array([0, 1]), r"shape \[pairs, 2\]"),
        (np.array([[0.0, 1.0]]), "whole numbers"),
    ],
)
def test_pairs_that_cannot_be_are_refused(pairs: np.ndarray, words: str) -> None:
    with pytest.raises(TokenizerError, match=words):
        prefix_agreement(np.zeros((4, 2), dtype=int), pairs)
    with pytest.raises(TokenizerError, match=words):
        pair_hit_rate(np.zeros((4, 2)), pairs, 3)


def test_a_list_of_no_items_is_refused() -> None:
    with pytest.raises(TokenizerError, match="k is 0"):
        pair_hit_rate(np.eye(3), np.array([[0, 1]]), 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 30), st.integers(0, 10_000))
def test_nearest_items_equal_a_full_sort(items: int, k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(items, 5))
    rows, cosines = nearest_items(vectors, k)
    assert rows.shape == cosines.shape == (items, min(k, items - 1))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for item in range(items):
        others = [other for other in range(items) if other != item]
        expected = sorted(others, key=lambda other: -float(unit[item] @ unit[other]))[:k]
        assert rows[item].tolist() == expected
        assert cosines[item] == pytest.approx([float(unit[item] @ unit[other]) for other in expected], abs=1e-6)


def test_memory_is_bounded_whatever_items_and_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SIMILARITY_ELEMENTS", 1 << 18)  # 1 MiB of similarities
    generator = np.random.default_rng(0)
    vectors, pairs = generator.normal(size=(6000, 4)).astype(np.float32), random_pairs(generator, 6000, 2000)
    tracemalloc.start()
    pair_hit_rate(vectors, pairs, 10)
    nearest_items(vectors, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # all similarities at once would take 48 and 144 MB
