"""Pairs from behaviour: scores equal slow references, caps do what they say, weights are what they should be."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sequence_cases import ITEMS, flat, sequences

from tokenizer.behaviour import pairs as module
from tokenizer.behaviour.co_occurrence import co_occurrence
from tokenizer.behaviour.pairs import (
    ItemPairs,
    co_occurrence_scores,
    joined,
    nearest_pairs,
    swing_scores,
    user_to_item_pairs,
)
from tokenizer.errors import TokenizerError


def slow_swing(lists: list[list[int]], alpha: float) -> np.ndarray:
    scores = np.zeros((ITEMS, ITEMS))
    for a, b in combinations(map(set, lists), 2):
        for i in a & b:
            for j in a & b - {i}:
                scores[i, j] += 1 / np.sqrt(len(a) * len(b)) / (alpha + len(a & b))
    return scores


@settings(max_examples=100, deadline=None)
@given(sequences, st.sampled_from([0.0, 0.5, 1.0, 5.0]), st.sampled_from([1, 7, 1 << 22]))
def test_swing_equals_a_loop_over_pairs_of_users(lists: list[list[int]], alpha: float, elements: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ELEMENTS", elements)  # how the work is cut into parts must not matter
        scores = swing_scores(*flat(lists), ITEMS, alpha=alpha)
    np.testing.assert_allclose(scores.toarray(), slow_swing(lists, alpha), atol=1e-9)


def test_of_a_heavy_user_the_latest_items_count() -> None:
    lists = [[0, 1, 2, 0, 3], [0, 1, 2, 3]]
    scores = swing_scores(*flat(lists), ITEMS, user_items=2).toarray()
    # the latest two different items are 0 and 3 of the first user, 2 and 3 of the second: no two are shared
    assert not scores.any()
    scores = swing_scores(*flat(lists), ITEMS, user_items=3).toarray()
    assert set(zip(*np.nonzero(scores), strict=True)) == {(2, 3), (3, 2)}
    assert scores[2, 3] == pytest.approx(1 / 4 / (1 + 2))  # both users are known to have four items


def test_of_an_item_of_many_users_an_even_sample_counts() -> None:
    lists = [[0, 1] if user < 40 else [2, 3] for user in range(50)]
    scores = swing_scores(*flat(lists), ITEMS, item_users=8).toarray()
    assert scores[0, 1] == pytest.approx(28 / 2 / 3)  # the pairs of 8 users
    assert scores[2, 3] == pytest.approx(28 / 2 / 3)  # of 10 users as well
    assert swing_scores(*flat(lists), ITEMS, item_users=40).toarray()[0, 1] == pytest.approx(780 / 2 / 3)


def test_swing_needs_two_users_and_repeats_change_nothing() -> None:
    assert not swing_scores(*flat([[0, 1, 2]]), ITEMS).nnz
    assert not len(nearest_pairs(swing_scores(*flat([]), ITEMS), 5))
    once, twice = swing_scores(*flat([[0, 1], [1, 0]]), ITEMS), swing_scores(*flat([[0, 1, 0, 1], [1, 0]]), ITEMS)
    np.testing.assert_array_equal(once.toarray(), twice.toarray())


@settings(max_examples=50, deadline=None)
@given(sequences, st.integers(1, 4))
def test_pairs_are_the_highest_scores_of_every_item(lists: list[list[int]], neighbours: int) -> None:
    scores = co_occurrence_scores(*flat(lists), ITEMS, window=3)
    pairs = nearest_pairs(scores, neighbours)
    assert pairs.pairs_P2.dtype == np.int32 and pairs.weight_P.dtype == np.float32
    dense = scores.toarray()
    for item in range(ITEMS):
        mine = pairs.pairs_P2[:, 0] == item
        partners, expected = pairs.pairs_P2[mine, 1], np.argsort(-dense[item], kind="stable")[:neighbours]
        expected = expected[dense[item, expected] > 0]
        np.testing.assert_allclose(dense[item, partners], dense[item, expected])
        assert len(set(partners.tolist())) == len(expected) and item not in partners
        shares = dense[item, partners] / dense[item, partners].sum()
        np.testing.assert_allclose(pairs.weight_P[mine], shares, rtol=1e-5)


def test_co_occurrence_scores_are_counts_over_the_root_of_both_totals() -> None:
    lists = [[0, 1, 2], [1, 0, 3], [0, 1]]
    counts = co_occurrence(*flat(lists), ITEMS, 2).toarray()
    total = counts.sum(axis=1)
    scores = co_occurrence_scores(*flat(lists), ITEMS, window=2).toarray()
    assert scores[0, 1] == pytest.approx(counts[0, 1] / np.sqrt(total[0] * total[1]))
    assert scores[4].sum() == 0


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(1, 4), st.integers(0, 3))
def test_user_to_item_equals_a_loop_over_events(lists: list[list[int]], history: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, 3)).astype(np.float32)
    vectors[5] = 0  # an item that nothing is known of
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    similarity = unit @ unit.T
    expected: dict[tuple[int, int], int] = {}
    for one in lists:
        for place, target in enumerate(one):
            earlier = [item for item in one[max(0, place - history) : place][::-1] if item != target]
            if earlier and max(similarity[target, earlier]) > 1e-6:
                best = max(earlier, key=lambda item, target=target: similarity[target, item])
                expected[target, best] = expected.get((target, best), 0) + 1
    pairs = user_to_item_pairs(*flat(lists), vectors, history=history)
    found = dict(zip(map(tuple, pairs.pairs_P2.tolist()), pairs.weight_P.tolist(), strict=True))
    assert found == expected


def test_kinds_of_pairs_weigh_the_same_together() -> None:
    first = ItemPairs(np.array([[0, 1], [1, 0]], dtype=np.int32), np.array([1, 3], dtype=np.float32))
    second = ItemPairs(np.array([[0, 1], [2, 3], [3, 2]], dtype=np.int32), np.array([10, 50, 40], dtype=np.float32))
    none = nearest_pairs(sparse.csr_matrix((4, 4)), 3)
    both = joined([first, none, second])
    assert both.pairs_P2.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    np.testing.assert_allclose(both.weight_P / both.weight_P.sum(), [0.175, 0.375, 0.25, 0.2], rtol=1e-5)
    assert len(joined([none, none])) == 0


def test_wrong_input_is_named() -> None:
    with pytest.raises(TokenizerError, match="event 1 names item row 9; there are 7 items"):
        swing_scores(np.array([0, 9]), np.array([0, 2]), ITEMS)
    with pytest.raises(TokenizerError, match="offsets must run from 0"):
        user_to_item_pairs(np.array([0, 1]), np.array([0, 1]), np.eye(ITEMS))
