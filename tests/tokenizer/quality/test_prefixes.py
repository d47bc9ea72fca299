"""Prefix figures and purity against counting by hand."""

import json
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from tokenizer.errors import TokenizerError
from tokenizer.quality.prefixes import prefix_figures, prefix_groups, prefix_purity


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10_000))
def test_prefixes_equal_a_slow_reference(items: int, size: int, levels: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, size, size=(items, levels))
    for depth, (group, figures) in enumerate(zip(prefix_groups(codes), prefix_figures(codes), strict=True), start=1):
        prefixes = [tuple(row[:depth]) for row in codes.tolist()]
        counts = Counter(prefixes)
        assert len(set(zip(prefixes, group.tolist(), strict=True))) == len(counts) == len(set(group.tolist()))
        assert figures == {
            "depth": depth,
            "distinct": len(counts),
            "items_per_prefix": pytest.approx(items / len(counts)),
            "largest": max(counts.values()),
            "items_alone": pytest.approx(sum(n == 1 for n in counts.values()) / items),
        }


def test_codes_of_many_levels_do_not_overflow() -> None:
    codes = np.random.default_rng(0).integers(0, 2**31 - 1, size=(500, 12))
    assert [len(np.unique(group)) for group in prefix_groups(codes)] == [500] * 12


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 10_000))
def test_purity_and_mutual_information_equal_slow_references(items: int, kinds: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes, labels = generator.integers(0, 3, size=(items, 2)), generator.integers(0, kinds, size=items)
    for depth, figures in enumerate(prefix_purity(codes, labels, permutations=3), start=1):
        below = defaultdict(list)
        for row, label in zip(codes.tolist(), labels.tolist(), strict=True):
            below[tuple(row[:depth])].append(label)
        pure = sum(max(Counter(group).values()) for group in below.values())
        assert figures["purity"] == pytest.approx(pure / items)
        group = prefix_groups(codes)[depth - 1]
        expected = normalized_mutual_info_score(labels, group)
        assert figures["mutual_information"] == pytest.approx(expected, abs=1e-9)


def test_labels_that_follow_the_codes_are_pure_and_random_ones_are_at_chance() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 20, size=(4000, 2))
    followed = prefix_purity(codes, codes[:, 0] % 5)
    assert json.loads(json.dumps(followed)) == followed
    assert followed[0]["purity"] == followed[0]["adjusted"] == 1.0
    # the label takes 5 values and the code 20: I = H(label), so 2 ln 5 / (ln 5 + ln 20) up to the draw of the codes
    assert followed[0]["mutual_information"] == pytest.approx(2 * np.log(5) / np.log(100), abs=0.01)
    labels = generator.integers(0, 5, size=4000)
    thrown = prefix_purity(codes, labels)
    assert prefix_purity(codes, labels, seed=0) == thrown != prefix_purity(codes, labels, seed=1)
    # ten items under a prefix: chance is far above one in five there, and random labels stay with it
    assert thrown[1]["chance"] > 0.35
    for figures in thrown:
        assert abs(figures["adjusted"]) < 0.02
        assert figures["mutual_information"] == pytest.approx(figures["mutual_information_chance"], abs=0.01)


def test_items_alone_are_no_proof_of_purity() -> None:
    (figures,) = prefix_purity(np.arange(30)[:, None], np.arange(30) % 3)
    assert (figures["purity"], figures["chance"], figures["adjusted"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", None, "b", "a"], dtype=object),
        pl.Series(["a", None, "b", "a"]),
        np.array([1.0, np.nan, 2.0, 1.0]),
        pl.Series([True, None, False, True]),
    ],
)
def test_items_without_a_label_are_left_out(labels: np.ndarray | pl.Series) -> None:
    codes = np.array([[0], [0], [0], [1]])
    (figures,) = prefix_purity(codes, labels)
    assert (figures["items"], figures["labels"], figures["prefixes"]) == (3, 2, 2)
    assert figures["purity"] == pytest.approx(2 / 3)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TokenizerError, match="3 labels for 2 items"):
        prefix_purity(np.zeros((2, 1), dtype=int), np.arange(3))
    with pytest.raises(TokenizerError, match="no item has a label"):
        prefix_purity(np.zeros((2, 1), dtype=int), pl.Series([None, None], dtype=pl.String))
