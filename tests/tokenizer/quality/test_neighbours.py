"""Neighbour preservation against loops that take every pair and every item one by one."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.common.vectors import normalise_rows
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
@given(st.integers(2, 25), st.integers(1, 30), st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([1, 1 << 23]))
def test_hit_rate_and_nearest_items_equal_a_full_ranking(
    items: int, count: int, k: int, seed: int, elements: int
) -> None:
    """However the work is cut into pieces."""
    generator = np.random.default_rng(seed)
    vectors, pairs = generator.normal(size=(items, 5)), random_pairs(generator, items, count)
    cosine = normalise_rows(vectors) @ normalise_rows(vectors).T
    ranked = [sorted(set(range(items)) - {a}, key=lambda b, a=a: -cosine[a, b])[:k] for a in range(items)]
    hits = [b in ranked[a] for a, b in pairs.tolist() if a != b]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "SIMILARITY_ELEMENTS", elements)
        assert pair_hit_rate(vectors, pairs, k) == pytest.approx(sum(hits) / max(len(hits), 1))
        rows, cosines = nearest_items(vectors, k)
    assert rows.tolist() == ranked
    np.testing.assert_allclose(cosines, np.take_along_axis(cosine, rows, axis=1), atol=1e-6)
    assert nearest_items(vectors[:1], k)[0].shape == (1, 0)


def test_equally_near_items_count_by_the_probability_of_being_listed() -> None:
    # item 0 has itself, one item in the same place (1), four a little further in one place (2-5), and one opposite (6)
    vectors = np.array([[1, 0], [2, 0], [1, 1], [2, 2], [3, 3], [4, 4], [-1, 0]], dtype=np.float32)
    assert pair_hit_rate(vectors, np.array([[0, 1]]), 1) == 1.0
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 1) == 0.0
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 3) == pytest.approx(2 / 4)
    assert pair_hit_rate(vectors, np.array([[0, 3]]), 5) == 1.0
    assert pair_hit_rate(np.zeros((11, 2)), np.array([[0, 1]]), 5) == pytest.approx(5 / 10)


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
