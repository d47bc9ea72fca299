"""Every item ends with an ID of its own, whatever the codes were."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.errors import TokenizerError
from tokenizer.unique import UniqueCodes, append_code, nearest_free


def resolve(codes: np.ndarray, sizes: list[int], seed: int = 0, width: int = 3) -> UniqueCodes:
    rng = np.random.default_rng(seed)
    codebooks = [rng.normal(size=(size, width)).astype(np.float32) / (level + 1) for level, size in enumerate(sizes)]
    return nearest_free(codes, sizes, rng.normal(size=(len(codes), width)).astype(np.float32), codebooks)


@st.composite
def coded_items(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Codes of up to as many items as there are IDs, often all alike."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    items = draw(st.integers(1, int(np.prod(sizes))))
    used = [draw(st.integers(1, size)) for size in sizes]  # few codes used: heavy collisions
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, used, size=(items, len(sizes))).astype(np.int32), sizes


def check_unique(result: UniqueCodes) -> None:
    assert len(np.unique(result.codes_NL, axis=0)) == len(result.codes_NL)
    assert (result.codes_NL >= 0).all()
    assert (result.codes_NL < result.level_sizes).all()


@settings(max_examples=150, deadline=None)
@given(coded_items(), st.integers(0, 3))
def test_nearest_free_is_unique_keeps_one_of_each_group_and_moves_only_colliders(
    case: tuple[np.ndarray, list[int]], seed: int
) -> None:
    codes, sizes = case
    result = resolve(codes, sizes, seed)
    check_unique(result)
    assert result.level_sizes == sizes
    assert result.moved == len(codes) - len(np.unique(codes, axis=0))
    kept = (result.codes_NL == codes).all(axis=1)
    assert kept.sum() == len(codes) - result.moved  # exactly one of each group stays
    assert len(np.unique(codes[kept], axis=0)) == len(np.unique(codes, axis=0))
    np.testing.assert_array_equal(result.codes_NL, resolve(codes, sizes, seed).codes_NL)


@settings(max_examples=300, deadline=None)
@given(coded_items())
def test_nearest_free_leaves_a_prefix_only_when_it_is_full(case: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = case
    result = resolve(codes, sizes)
    for depth in range(1, len(sizes)):
        left = (result.codes_NL[:, :depth] != codes[:, :depth]).any(axis=1)
        room = int(np.prod(sizes[depth:]))
        for prefix in np.unique(codes[left, :depth], axis=0):
            wanted = (codes[:, :depth] == prefix).all(axis=1).sum()
            there = (result.codes_NL[:, :depth] == prefix).all(axis=1).sum()
            assert wanted > room
            assert there == room


@settings(max_examples=100, deadline=None)
@given(coded_items())
def test_append_code_numbers_each_group_and_changes_nothing_else(case: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = case
    result = append_code(codes, sizes)
    check_unique(result)
    np.testing.assert_array_equal(result.codes_NL[:, :-1], codes)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    assert result.level_sizes == [*sizes, counts.max()]
    assert result.moved == (counts - 1).sum()
    for group in np.unique(codes, axis=0):
        members = (codes == group).all(axis=1)
        np.testing.assert_array_equal(result.codes_NL[members, -1], np.arange(members.sum()))  # row order


def test_the_closest_item_stays_and_the_others_take_the_nearest_free_code() -> None:
    codebooks = [np.array([[0.0], [100.0]]), np.array([[0.0], [1.0], [5.0], [9.0]])]
    latent = np.array([[0.4], [0.1], [0.3], [101.0]])
    codes = np.array([[0, 0], [0, 0], [0, 0], [1, 1]])
    result = nearest_free(codes, [2, 4], latent, codebooks)
    # row 1 is closest to code 0 and stays; row 2 goes before row 0 as it is closer, and takes 1; row 0 is left with 5.0
    assert result.codes_NL.tolist() == [[0, 2], [0, 0], [0, 1], [1, 1]]
    assert result.moved == 2


def test_a_full_prefix_sends_items_to_the_nearest_prefix_with_room() -> None:
    codebooks = [np.array([[0.0], [10.0], [2.0]]), np.array([[0.0], [0.5]])]
    latent = np.array([[0.0], [0.1], [0.2], [2.0], [2.5]])
    codes = np.array([[0, 0], [0, 0], [0, 0], [2, 0], [2, 1]])
    result = nearest_free(codes, [3, 2], latent, codebooks)
    assert result.codes_NL.tolist() == [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]]  # prefix 2 is nearer, but full


def test_all_items_identical_fill_the_whole_code_space() -> None:
    result = nearest_free(np.zeros((60, 3), int), [3, 4, 5], np.zeros((60, 2)), [np.zeros((k, 2)) for k in (3, 4, 5)])
    check_unique(result)


def test_too_many_items_are_refused_with_the_size_that_would_do() -> None:
    codes = np.zeros((13, 2), int)
    with pytest.raises(TokenizerError, match="12 IDs for 13 items; enlarge the last level to 5"):
        nearest_free(codes, [3, 4], np.zeros((13, 1)), [np.zeros((3, 1)), np.zeros((4, 1))])


def test_code_spaces_beyond_64_bits_count_without_overflow() -> None:
    sizes = [2**20, 2**20, 2**20, 2**10, 2]
    codes = np.zeros((5, 5), int)  # the last prefix is full after two
    result = nearest_free(codes, sizes, np.zeros((5, 1)), [np.zeros((size, 1)) for size in sizes])
    check_unique(result)
    assert (result.codes_NL[:, :3] == 0).all()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_twelve_thousand_items_are_quick(share: float) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, size=(12_000, 3))
    collided = rng.random(12_000) < share
    codes[collided] = codes[rng.integers(0, 600, size=collided.sum())]
    codebooks = [rng.normal(size=(256, 64)).astype(np.float32) for _ in range(3)]
    started = time.perf_counter()
    result = nearest_free(codes, [256] * 3, rng.normal(size=(12_000, 64)).astype(np.float32), codebooks)
    assert time.perf_counter() - started < 4  # measured well under one second; slack for a busy machine
    check_unique(result)
