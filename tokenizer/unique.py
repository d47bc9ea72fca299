"""One item, one ID: what happens to items whose vectors fall on the same codes.

`append_code` adds a level that numbers the colliders, as TIGER does (arXiv 2305.05065): no code changes, every ID grows
by one level. `nearest_free` keeps the length: the item closest to its codes keeps them, the others take the nearest
last-level code that is free under the same prefix, and only when a prefix is full does one move to another prefix.
"""

from dataclasses import dataclass

import numpy as np

from tokenizer.checks import check_codes, check_level_sizes
from tokenizer.errors import TokenizerError

MOVER_ROWS = 1024  # items whose distances to one codebook are held at once


@dataclass(frozen=True)
class UniqueCodes:
    """codes_NL int32, all rows different; level_sizes of its levels; moved: items that had to take another ID."""

    codes_NL: np.ndarray
    level_sizes: list[int]
    moved: int


def append_code(codes_NL: np.ndarray, level_sizes: list[int]) -> UniqueCodes:
    """Number the items of each collision group 0, 1, 2 … in row order on an extra last level.

    codes_NL: int [N,L]. The new level is as large as the largest group. `moved` counts items numbered above zero.
    """
    codes_NL = check_codes(codes_NL, check_level_sizes(level_sizes))
    order_N = np.lexsort(codes_NL.T[::-1])
    first_N = _first_of_run(codes_NL[order_N])
    position_N = np.arange(len(codes_NL))
    rank_N = position_N - np.maximum.accumulate(np.where(first_N, position_N, 0))
    extra_N = np.empty(len(codes_NL), dtype=np.int32)
    extra_N[order_N] = rank_N
    unique_NL = np.column_stack([codes_NL, extra_N])
    return _verified(unique_NL, [*level_sizes, int(extra_N.max(initial=0)) + 1], int((extra_N > 0).sum()))


def nearest_free(
    codes_NL: np.ndarray, level_sizes: list[int], latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> UniqueCodes:
    """Move colliders to the nearest free code of the last level, and further up only where a prefix is full.

    codes_NL: int [N,L] as encoded. latent_ND and codebooks (per level float [V,D]): the space in which an item is
    approximated by the sum of one codebook row per level; see `tokenizer.quantizers`.
    Deterministic. Work grows with the number of colliders times the size of a level, memory with N.
    Raises TokenizerError when there are more items than IDs.
    """
    level_sizes = check_level_sizes(level_sizes)
    codes_NL = check_codes(codes_NL, level_sizes).copy()
    _check_capacity(len(codes_NL), level_sizes)
    placed_N = _keep_closest(codes_NL, latent_ND, codebooks)
    movers = np.flatnonzero(~placed_N)
    if len(movers):
        overflow = _move_within_prefix(codes_NL, placed_N, latent_ND, codebooks)
        if len(overflow):
            _move_to_other_prefix(codes_NL, placed_N, overflow, level_sizes, latent_ND, codebooks)
    return _verified(codes_NL, level_sizes, len(movers))


def _keep_closest(codes_NL: np.ndarray, latent_ND: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """Bool [N]: of every group with the same codes the item with the smallest residual, the first row among equals."""
    order_N = np.lexsort(codes_NL.T[::-1])
    first_N = _first_of_run(codes_NL[order_N])
    group_N = np.empty(len(codes_NL), dtype=np.int64)
    group_N[order_N] = np.cumsum(first_N) - 1
    collided = np.flatnonzero(np.bincount(group_N)[group_N] > 1)
    placed_N = np.ones(len(codes_NL), dtype=bool)
    distance = _squared_residual(codes_NL, collided, latent_ND, codebooks)
    collided = collided[np.lexsort((collided, distance, group_N[collided]))]
    placed_N[collided[~_first_of_run(group_N[collided, None])]] = False
    return placed_N


def _move_within_prefix(
    codes_NL: np.ndarray, placed_N: np.ndarray, latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> np.ndarray:
    """Place movers, closest first, on free last-level codes of their prefix. Returns the rows that found it full."""
    prefix_N = _prefix_groups(codes_NL)
    movers = np.flatnonzero(~placed_N)
    distance = _squared_residual(codes_NL, movers, latent_ND, codebooks)
    movers = movers[np.lexsort((movers, distance, prefix_N[movers]))]
    by_prefix = np.argsort(prefix_N, kind="stable")
    starts = np.searchsorted(prefix_N[by_prefix], np.arange(prefix_N.max() + 2))
    overflow: list[int] = []
    current, taken_V = -1, np.zeros(0, dtype=bool)
    for start in range(0, len(movers), MOVER_ROWS):
        block = movers[start : start + MOVER_ROWS]
        residual_RD = _residual(codes_NL, block, latent_ND, codebooks, levels=len(codebooks) - 1)
        cost_RV = _scores(residual_RD, codebooks[-1])
        for row, cost_V in zip(block, cost_RV, strict=True):
            if prefix_N[row] != current:
                current = prefix_N[row]
                members = by_prefix[starts[current] : starts[current + 1]]
                taken_V = np.zeros(len(codebooks[-1]), dtype=bool)
                taken_V[codes_NL[members[placed_N[members]], -1]] = True
            if taken_V.all():
                overflow.append(row)
                continue
            code = int(np.where(taken_V, np.inf, cost_V).argmin())
            codes_NL[row, -1] = code
            taken_V[code] = True
            placed_N[row] = True
    return np.asarray(overflow, dtype=np.int64)


def _move_to_other_prefix(
    codes_NL: np.ndarray,
    placed_N: np.ndarray,
    overflow: np.ndarray,
    level_sizes: list[int],
    latent_ND: np.ndarray,
    codebooks: list[np.ndarray],
) -> None:
    """Place each row in the nearest branch with room, as deep in the tree as there is any; changes codes_NL.

    All rows that find room under a long prefix are placed before any row looks under a shorter one, so that nobody is
    pushed out of a prefix by an item that does not belong there.
    """
    room = _Room(codes_NL[placed_N], level_sizes)
    waiting = [int(row) for row in overflow]
    for depth in range(len(level_sizes) - 2, -1, -1):
        still_waiting = []
        for row in waiting:
            prefix = tuple(int(code) for code in codes_NL[row, :depth])
            if not room.open_codes(prefix).any():
                still_waiting.append(row)
                continue
            for level in range(depth, len(level_sizes)):
                residual_D = latent_ND[row] - sum(codebooks[above][code] for above, code in enumerate(prefix))
                cost_V = _scores(residual_D[None], codebooks[level])[0]
                prefix = (*prefix, int(np.where(room.open_codes(prefix), cost_V, np.inf).argmin()))
            room.take(prefix)
            codes_NL[row] = prefix
        waiting = still_waiting


class _Room:
    """How many IDs are taken below each code, counted for a prefix when it is first asked for."""

    def __init__(self, taken_ML: np.ndarray, level_sizes: list[int]) -> None:
        self._taken_ML = taken_ML[np.lexsort(taken_ML.T[::-1])]
        self._level_sizes = level_sizes
        self._capacity = [1] * len(level_sizes)  # IDs below one code of a level; Python ints, they may exceed 64 bits
        for level in range(len(level_sizes) - 2, -1, -1):
            self._capacity[level] = self._capacity[level + 1] * level_sizes[level + 1]
        self._counts: dict[tuple[int, ...], np.ndarray] = {}

    def open_codes(self, prefix: tuple[int, ...]) -> np.ndarray:
        """Bool [V]: codes that have a free ID below them, on the level that follows the prefix."""
        return self._count(prefix) < min(self._capacity[len(prefix)], np.iinfo(np.int64).max)

    def take(self, codes: tuple[int, ...]) -> None:
        for level, code in enumerate(codes):
            self._count(codes[:level])[code] += 1

    def _count(self, prefix: tuple[int, ...]) -> np.ndarray:
        if prefix not in self._counts:
            start, end = 0, len(self._taken_ML)
            for level, code in enumerate(prefix):  # rows are sorted, so each code narrows the range
                column = self._taken_ML[start:end, level]
                first, last = np.searchsorted(column, code), np.searchsorted(column, code, side="right")
                start, end = start + int(first), start + int(last)
            below = self._taken_ML[start:end, len(prefix)]
            self._counts[prefix] = np.bincount(below, minlength=self._level_sizes[len(prefix)])
        return self._counts[prefix]


def _prefix_groups(codes_NL: np.ndarray) -> np.ndarray:
    """Number of the group of items that agree on all but the last level, int64 [N]."""
    group_N = np.zeros(len(codes_NL), dtype=np.int64)
    for level in range(codes_NL.shape[1] - 1):
        key_N = group_N * (int(codes_NL[:, level].max()) + 1) + codes_NL[:, level]
        group_N = np.unique(key_N, return_inverse=True)[1]  # renumbered at each level: products never overflow
    return group_N


def _residual(
    codes_NL: np.ndarray, rows: np.ndarray, latent_ND: np.ndarray, codebooks: list[np.ndarray], levels: int
) -> np.ndarray:
    """What the first `levels` codes leave unexplained, float [R,D]."""
    residual_RD = latent_ND[rows].copy()
    for level in range(levels):
        residual_RD -= codebooks[level][codes_NL[rows, level]]
    return np.asarray(residual_RD)


def _squared_residual(
    codes_NL: np.ndarray, rows: np.ndarray, latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> np.ndarray:
    blocks = np.array_split(rows, -(-len(rows) // MOVER_ROWS) or 1)
    return np.concatenate(
        [np.square(_residual(codes_NL, block, latent_ND, codebooks, len(codebooks))).sum(1) for block in blocks]
    )


def _scores(residual_RD: np.ndarray, codebook_VD: np.ndarray) -> np.ndarray:
    """Squared distance to every codebook row up to a constant per row, [R,V]."""
    return np.asarray(np.square(codebook_VD).sum(1) - 2.0 * (residual_RD @ codebook_VD.T))


def _first_of_run(sorted_NL: np.ndarray) -> np.ndarray:
    """Bool [N]: the row differs from the one before it."""
    first_N = np.ones(len(sorted_NL), dtype=bool)
    first_N[1:] = (sorted_NL[1:] != sorted_NL[:-1]).any(axis=1)
    return first_N


def _check_capacity(items: int, level_sizes: list[int]) -> None:
    capacity = 1
    for size in level_sizes:
        capacity *= size
    if capacity < items:
        needed = -(-items // (capacity // level_sizes[-1]))
        raise TokenizerError(
            f"level_sizes {level_sizes} give {capacity} IDs for {items} items; "
            f"enlarge the last level to {needed} or more, or add a level."
        )


def _verified(codes_NL: np.ndarray, level_sizes: list[int], moved: int) -> UniqueCodes:
    """Trust nothing: the whole system downstream assumes that IDs are unique."""
    sorted_NL = codes_NL[np.lexsort(codes_NL.T[::-1])]
    if not _first_of_run(sorted_NL).all():
        raise AssertionError(
            "two items still share an ID after resolving collisions; this is a bug in tokenizer.unique"
        )
    return UniqueCodes(np.ascontiguousarray(codes_NL, dtype=np.int32), list(level_sizes), moved)
