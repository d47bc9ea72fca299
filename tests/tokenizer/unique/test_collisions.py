"""Every item ends with an ID of its own, whatever the codes were."""

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.errors import TokenizerError
from tokenizer.unique.collisions import UniqueCodes, append_code, nearest_free, sinkhorn_last_level
from tokenizer.unique.free_ids import CodeSpace, settle
from tokenizer.unique.id_order import TakenIds, all_different, group_numbers, sort_keys
from tokenizer.unique.sinkhorn import assign_within_prefixes, uniform_prices

KEEPING_LENGTH = [nearest_free, sinkhorn_last_level]


def space_of(items: int, sizes: list[int], seed: int = 0, width: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    """Latent rows and codebooks, finer on every level."""
    rng = np.random.default_rng(seed)
    codebooks = [rng.normal(size=(size, width)).astype(np.float32) / (level + 1) for level, size in enumerate(sizes)]
    return rng.normal(size=(items, width)).astype(np.float32), codebooks


def mean_error(codes: np.ndarray, latent: np.ndarray, codebooks: list[np.ndarray]) -> float:
    rebuilt = sum(codebook[codes[:, level]] for level, codebook in enumerate(codebooks))
    return float(np.square(latent.astype(np.float64) - rebuilt).sum(axis=1).mean())


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


@settings(max_examples=300, deadline=None)
@given(coded_items(), st.integers(0, 3))
def test_nearest_free_is_unique_keeps_one_of_each_group_and_moves_only_colliders(
    case: tuple[np.ndarray, list[int]], seed: int
) -> None:
    codes, sizes = case
    result = nearest_free(codes, sizes, *space_of(len(codes), sizes, seed))
    assert result.moved == len(codes) - len(np.unique(codes, axis=0))
    kept = (result.codes_NL == codes).all(axis=1)
    assert kept.sum() == len(codes) - result.moved  # exactly one of each group stays
    assert len(np.unique(codes[kept], axis=0)) == len(np.unique(codes, axis=0))
    # a prefix is left only when it is full
    for depth in range(1, len(sizes)):
        left = (result.codes_NL[:, :depth] != codes[:, :depth]).any(axis=1)
        room = int(np.prod(sizes[depth:]))
        for prefix in np.unique(codes[left, :depth], axis=0):
            assert (codes[:, :depth] == prefix).all(axis=1).sum() > room
            assert (result.codes_NL[:, :depth] == prefix).all(axis=1).sum() == room


@settings(max_examples=100, deadline=None)
@given(coded_items())
def test_append_code_numbers_each_group_and_changes_nothing_else(case: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = case
    result = append_code(codes, sizes)
    check_unique(result)
    np.testing.assert_array_equal(result.codes_NL[:, :-1], codes)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    assert result.level_sizes == [*sizes, counts.max()]
    assert (result.moved, result.extra_error) == ((counts - 1).sum(), 0.0)
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


@settings(max_examples=150, deadline=None)
@given(coded_items(), st.integers(0, 3))
def test_the_costs_are_those_of_the_codes(case: tuple[np.ndarray, list[int]], seed: int) -> None:
    codes, sizes = case
    latent, codebooks = space_of(len(codes), sizes, seed)
    before = mean_error(codes, latent, codebooks)
    for way in KEEPING_LENGTH:
        result = way(codes, sizes, latent, codebooks)
        check_unique(result)
        assert result.level_sizes == sizes
        assert result.moved == (result.codes_NL != codes).any(axis=1).sum()
        after = mean_error(result.codes_NL, latent, codebooks)
        assert result.extra_error == pytest.approx(after / before - 1, rel=1e-4, abs=1e-5)  # float32 sums
        np.testing.assert_array_equal(result.codes_NL, way(codes, sizes, latent, codebooks).codes_NL)
    # the last result is that of Sinkhorn, which leaves a prefix only when it has more items than codes
    for prefix in np.unique(codes[:, :-1], axis=0):
        members = (codes[:, :-1] == prefix).all(axis=1)
        stayed = (result.codes_NL[members, :-1] == prefix).all(axis=1)
        assert stayed.sum() == min(members.sum(), sizes[-1])


@pytest.mark.parametrize("way", KEEPING_LENGTH)
def test_without_anything_to_choose_by_only_colliders_move(way: Callable[..., UniqueCodes]) -> None:
    """Random and hash IDs have codebooks of zeros; what is unique already must stay."""
    codes = np.random.default_rng(0).integers(0, 8, size=(200, 3))
    result = way(codes, [8, 8, 8], np.zeros((200, 1)), [np.zeros((8, 1))] * 3)
    check_unique(result)
    assert result.moved == 200 - len(np.unique(codes, axis=0))
    assert result.extra_error == 0.0
    codebooks = [np.zeros((1, 1)), np.array([[0.0], [1.0], [2.0]])]
    identical = nearest_free(np.zeros((3, 2), int), [1, 3], np.zeros((3, 1)), codebooks)
    assert identical.extra_error == 1.0  # it was zero before


@pytest.mark.parametrize("way", KEEPING_LENGTH)
def test_code_spaces_are_filled_to_the_last_and_may_exceed_64_bits(way: Callable[..., UniqueCodes]) -> None:
    for latent, codebooks in ((np.zeros((60, 2)), [np.zeros((k, 2)) for k in (3, 4, 5)]), space_of(60, [3, 4, 5])):
        check_unique(way(np.zeros((60, 3), int), [3, 4, 5], latent, codebooks))
    with pytest.raises(TokenizerError, match="60 IDs for 61 items; enlarge the last level to 6"):
        way(np.zeros((61, 3), int), [3, 4, 5], *space_of(61, [3, 4, 5]))
    sizes = [2**20, 2**20, 2**20, 2**10, 2]
    codes = np.zeros((5, 5), int)  # the last prefix is full after two
    result = way(codes, sizes, np.zeros((5, 1)), [np.zeros((size, 1)) for size in sizes])
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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_sinkhorn_assigns_a_prefix_at_the_least_priced_cost(items: int, spare: int, seed: int) -> None:
    """Against all assignments there are; codes all alike before, so that every item of the prefix has to choose."""
    size = items + spare - 1
    latent, codebooks = space_of(items, [size], seed)
    prices = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    space = CodeSpace(latent, codebooks, prices)
    wishes = np.zeros((items, 1), np.int32)
    assign_within_prefixes(wishes, space)
    cost = np.square(latent[:, None] - codebooks[0]).sum(axis=2) + prices
    best = min(cost[range(items), list(chosen)].sum() for chosen in itertools.permutations(range(size), items))
    if items > 1:  # a lone item has its wish already
        assert cost[range(items), wishes[:, 0]].sum() == pytest.approx(best, abs=1e-4)
        assert len(np.unique(wishes)) == items


def test_prices_make_the_last_level_evenly_used() -> None:
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, 64, size=4000), np.zeros(4000, int)])
    latent = (rng.normal(size=(4000, 4)) ** 3).astype(np.float32)  # most items near the middle, some far out
    codebooks = [np.zeros((64, 4), np.float32), 2 * rng.normal(size=(128, 4)).astype(np.float32)]
    codes[:, 1] = np.square(latent[:, None] - codebooks[1]).sum(axis=2).argmin(axis=1)
    by_way = [way(codes, [64, 128], latent, codebooks) for way in KEEPING_LENGTH]
    spread = [np.bincount(result.codes_NL[:, 1], minlength=128).std() for result in by_way]
    assert spread[1] < spread[0] / 2


def test_uniform_prices_equalise_soft_loads() -> None:
    cost = np.random.default_rng(0).exponential(size=(500, 20)).astype(np.float32)
    cost += np.linspace(0, 2, 20, dtype=np.float32)
    prices = uniform_prices(cost, sharpness=0.5, iterations=500)
    softness = 0.5 * (cost.mean(axis=1) - cost.min(axis=1)).mean()
    share = np.exp(-(cost + prices) / softness)
    load = (share / share.sum(axis=1, keepdims=True)).mean(axis=0) * 20
    np.testing.assert_allclose(load, 1, atol=0.011)  # the tolerance at which the iteration stops
    assert not uniform_prices(np.ones((5, 3), np.float32)).any()


@settings(max_examples=150, deadline=None)
@given(coded_items(), st.integers(0, 3), st.floats(0, 1))
def test_settle_never_gives_away_what_is_published(case: tuple[np.ndarray, list[int]], seed: int, share: float) -> None:
    wishes, sizes = case
    everything = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    free = len(everything) - len(wishes)
    rng = np.random.default_rng(seed)
    published = rng.permutation(everything)[: int(share * free)].astype(np.int32)
    given_ids = settle(wishes, CodeSpace.of(*space_of(len(wishes), sizes, seed)), sizes, published)
    together = np.concatenate([published, given_ids])
    assert len(np.unique(together, axis=0)) == len(together)
    # whoever is alone in wanting a free ID has it
    named, counts = np.unique(np.concatenate([published, wishes]), axis=0, return_counts=True)
    alone = {tuple(row) for row in named[counts == 1]}
    for wish, row in zip(wishes, given_ids, strict=True):
        assert tuple(wish) not in alone or (wish == row).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from([3, 2**31 - 1]))
def test_sort_keys_order_rows_code_by_code(rows: int, levels: int, seed: int, largest: int) -> None:
    """Also where a row read as one number needs more than 63 bits."""
    codes = np.random.default_rng(seed).integers(0, largest, size=(rows, levels)).astype(np.int32)
    codes = np.concatenate([codes, codes[: rows // 2]])
    listed = [tuple(row) for row in codes.tolist()]
    keys = sort_keys(codes).tolist()
    for (left, key), (right, other) in itertools.combinations(zip(listed, keys, strict=True), 2):
        assert ((left > right) - (left < right)) == ((key > other) - (key < other))
    assert all_different(codes) == (len(set(listed)) == len(listed))
    ranks = {row: rank for rank, row in enumerate(sorted(set(listed)))}
    assert group_numbers(sort_keys(codes)).tolist() == [ranks[row] for row in listed]


@settings(max_examples=100, deadline=None)
@given(coded_items())
def test_taken_ids_count_what_is_below_every_prefix(case: tuple[np.ndarray, list[int]]) -> None:
    codes, sizes = case
    ids = np.unique(codes, axis=0)
    taken = TakenIds(ids, sizes)
    for depth in range(len(sizes)):
        for prefix in itertools.product(*(range(size) for size in sizes[:depth])):
            members = ids[(ids[:, :depth] == prefix).all(axis=1)]
            assert sorted(taken.below(prefix)) == sorted(members[:, depth])
            room = np.prod(sizes[depth + 1 :]) - np.bincount(members[:, depth], minlength=sizes[depth])
            assert taken.open_codes(prefix).tolist() == (room > 0).tolist()
