"""Vectors from behaviour: exact counts, no leak from outside the given sequences, sensible cold items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_cases import ITEMS, flat, sequences

from tokenizer.behaviour import co_occurrence as module
from tokenizer.behaviour.co_occurrence import co_occurrence, collaborative_vectors, fill_cold, positive_pmi
from tokenizer.common.vectors import normalise_rows
from tokenizer.errors import TokenizerError


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(1, 10))
def test_counts_equal_a_double_loop(lists: list[list[int]], window: int) -> None:
    expected = np.zeros((ITEMS, ITEMS))
    for one in lists:
        for i, a in enumerate(one):
            for j in range(i + 1, min(len(one), i + window + 1)):
                if a != one[j]:
                    expected[a, one[j]] += 1 / (j - i)
                    expected[one[j], a] += 1 / (j - i)
    np.testing.assert_allclose(co_occurrence(*flat(lists), ITEMS, window).toarray(), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(sequences)
def test_positive_pmi_equals_its_formula(lists: list[list[int]]) -> None:
    counts = co_occurrence(*flat(lists), ITEMS, 3)
    dense = counts.toarray()
    total, item, context = dense.sum(), dense.sum(1), dense.sum(1) ** 0.75
    expected = np.zeros((ITEMS, ITEMS))
    for a, b in zip(*np.nonzero(dense), strict=True):
        expected[a, b] = max(0.0, np.log((dense[a, b] / total) / (item[a] / total * context[b] / context.sum())))
    np.testing.assert_allclose(positive_pmi(counts).toarray(), expected, atol=1e-9)


def two_communities(users: int = 60, length: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return flat([(rng.integers(0, 10, length) + 10 * (user % 2)).tolist() for user in range(users)])


def test_items_of_one_community_are_nearer_than_items_of_two() -> None:
    item_index, offsets = two_communities()
    vectors = collaborative_vectors(item_index, offsets, 21, dimensions=4, window=3)
    assert vectors.dtype == np.float32
    assert vectors.shape == (21, 4)
    assert not vectors[20].any()  # never seen
    unit = normalise_rows(vectors[:20])
    similarity = unit @ unit.T
    assert similarity[:10, :10].mean() > similarity[:10, 10:].mean() + 0.2


def test_only_the_given_sequences_matter_and_the_seed_repeats_them() -> None:
    item_index, offsets = two_communities()
    settings = {"dimensions": 5, "window": 2, "seed": 1}
    once = collaborative_vectors(item_index, offsets, 25, **settings)
    # events behind the last offset belong to nobody: an array that holds them must be refused, not read
    with pytest.raises(TokenizerError, match="offsets must run from 0"):
        collaborative_vectors(np.append(item_index, 24), offsets, 25, **settings)
    for same in (offsets, np.repeat(offsets, 2)):  # users without events change nothing
        np.testing.assert_array_equal(once, collaborative_vectors(item_index, same, 25, **settings))


def test_no_sequences_at_all_give_zeros() -> None:
    vectors = collaborative_vectors(np.zeros(0, int), np.zeros(1, int), 4, dimensions=3, window=2)
    assert vectors.shape[0] == 4
    assert not vectors.any()


def test_damaged_sequences_are_named() -> None:
    with pytest.raises(TokenizerError, match="event 1 names item row 9; there are 5 items"):
        collaborative_vectors(np.array([0, 9]), np.array([0, 2]), 5)
    with pytest.raises(TokenizerError, match="decrease"):
        collaborative_vectors(np.array([0, 1]), np.array([0, 2, 1, 2]), 5)


def test_cold_items_take_after_their_content_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    content = np.eye(2)[label] + 0.05 * rng.normal(size=(60, 2))
    behaviour = np.eye(3)[label] + 0.05 * rng.normal(size=(60, 3))
    warm = np.arange(60) < 40
    behaviour[~warm] = 0
    filled = fill_cold(behaviour, content, warm)
    np.testing.assert_array_equal(filled[warm], normalise_rows(behaviour[warm]))
    assert (filled[~warm].argmax(1) == label[~warm]).all()
    np.testing.assert_allclose(np.linalg.norm(filled, axis=1), 1, atol=1e-5)
    monkeypatch.setattr(module, "SIMILARITY_ELEMENTS", 3 * 40)  # blocks of three rows
    np.testing.assert_allclose(fill_cold(behaviour, content, warm), filled, atol=1e-6)


def test_cold_items_without_anything_to_learn_from_stay_zero() -> None:
    assert not fill_cold(np.zeros((3, 2)), np.eye(3), np.zeros(3, bool)).any()
    content = np.array([[1.0, 0], [0, 0]])
    assert not fill_cold(np.ones((2, 2)), content, np.array([True, False]))[1].any()
