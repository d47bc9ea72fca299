import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onerec.evaluate import metrics

ITEMS = 12


@st.composite
def lists_and_targets(draw: st.DrawFn) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Lists of distinct items as recommenders return them, some ending early in -1, and one target each."""
    cases = draw(st.integers(1, 6))
    length = draw(st.integers(1, ITEMS))
    rows = []
    for _ in range(cases):
        row = draw(st.permutations(range(ITEMS)))[:length]
        used = draw(st.integers(0, length))
        rows.append(row[:used] + [-1] * (length - used))
    target = draw(st.lists(st.integers(0, ITEMS - 1), min_size=cases, max_size=cases))
    return np.array(rows, dtype=np.int32), np.array(target, dtype=np.int32)


@given(lists_and_targets())
def test_ranks_equal_a_walk_down_the_list(example: tuple[NDArray[np.int32], NDArray[np.int32]]) -> None:
    items, target = example
    expected = [row.index(t) + 1 if t in row else 0 for row, t in zip(items.tolist(), target.tolist(), strict=True)]
    ranks = metrics.ranks_of(items, target)
    assert ranks.dtype == np.int32
    assert ranks.tolist() == expected


@given(lists_and_targets(), st.lists(st.integers(0, 4), min_size=ITEMS, max_size=ITEMS))
def test_id_ranks_count_any_item_with_the_targets_codes(
    example: tuple[NDArray[np.int32], NDArray[np.int32]], groups: list[int]
) -> None:
    """Padding is never a hit, whatever the codes of item -1, the last one."""
    items, target = example
    expected = []
    for row, wanted in zip(items.tolist(), target.tolist(), strict=True):
        places = [n for n, item in enumerate(row, start=1) if item >= 0 and groups[item] == groups[wanted]]
        expected.append(places[0] if places else 0)
    assert metrics.id_ranks_of(items, target, np.array(groups)).tolist() == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_case_metrics_equal_their_definitions(ranks: list[int]) -> None:
    figures = metrics.case_metrics(np.array(ranks, dtype=np.int32))
    assert set(figures) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20, 50)}
    for case, rank in enumerate(ranks):
        for k in metrics.CUTOFFS:
            hit = 1 <= rank <= k
            assert figures[f"recall@{k}"][case] == float(hit)
            assert figures[f"ndcg@{k}"][case] == pytest.approx(1 / math.log2(rank + 1) if hit else 0.0, abs=1e-12)
            assert figures[f"mrr@{k}"][case] == pytest.approx(1 / rank if hit else 0.0, abs=1e-12)


def test_id_hits_have_names_of_their_own() -> None:
    ranks = np.array([1, 7, 0], dtype=np.int32)
    figures = metrics.id_case_metrics(ranks)
    assert not set(figures) & set(metrics.case_metrics(ranks))
    assert figures["id_recall@5"].tolist() == [1.0, 0.0, 0.0]
    assert figures["id_recall@10"].tolist() == [1.0, 1.0, 0.0]


@given(lists_and_targets(), st.data())
def test_coverage_counts_distinct_items(
    example: tuple[NDArray[np.int32], NDArray[np.int32]], data: st.DataObject
) -> None:
    items, _ = example
    k = data.draw(st.integers(1, items.shape[1]))
    shown = {item for row in items.tolist() for item in row[:k] if item >= 0}
    assert metrics.coverage(items, ITEMS, k) == pytest.approx(len(shown) / ITEMS)


def test_shapes_and_ranges_that_do_not_fit_are_refused() -> None:
    items = np.zeros((2, 3), dtype=np.int32)
    with pytest.raises(ValueError, match="-1 marks"):
        metrics.ranks_of(items, np.array([0, -1]))
    with pytest.raises(ValueError, match="one list per target"):
        metrics.ranks_of(items, np.array([1]))
    with pytest.raises(ValueError, match="no collision group"):
        metrics.id_ranks_of(items, np.array([1, 4]), np.array([0, 1]))
    with pytest.raises(ValueError, match="at least 4"):
        metrics.coverage(items, 5, 4)
    with pytest.raises(ValueError, match="1-based"):
        metrics.case_metrics(np.array([-1]))


def test_no_cases_give_no_values() -> None:
    ranks = metrics.ranks_of(np.zeros((0, 10), dtype=np.int32), np.zeros(0, dtype=np.int32))
    assert all(len(values) == 0 for values in metrics.case_metrics(ranks).values())
