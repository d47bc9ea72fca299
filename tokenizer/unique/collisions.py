"""One item, one ID: what happens to items whose vectors fall on the same codes, and what that costs.

`append_code` adds a level that numbers the colliders, as TIGER does (arXiv 2305.05065): no code changes, every ID grows
by one level. `nearest_free` keeps the length: the item closest to its codes keeps them, the others take the nearest
last-level code that is free under the same prefix, and only when a prefix is full does one move to another prefix.
`sinkhorn_last_level` also keeps the length and chooses the last level anew for all items, so that its codes are used
evenly (LC-Rec, arXiv 2311.09049).
"""

from dataclasses import dataclass

import numpy as np

from tokenizer.common.checks import check_codes, check_level_sizes
from tokenizer.errors import TokenizerError
from tokenizer.unique.free_ids import CodeSpace, settle
from tokenizer.unique.id_order import all_different, first_of_run, sort_keys
from tokenizer.unique.sinkhorn import assign_within_prefixes, cheapest_last_codes, priced_space


@dataclass(frozen=True)
class UniqueCodes:
    """IDs and what it cost to make them unique.

    codes_NL int32, all rows different; level_sizes of its levels. moved: items whose ID is not the codes they were
    encoded to (with an appended code: those numbered above zero). extra_error: by how much the mean squared distance of
    the items to their codes grew, as a share of what it was; negative when it shrank, 1.0 when it was zero and is no more.
    """

    codes_NL: np.ndarray
    level_sizes: list[int]
    moved: int
    extra_error: float = 0.0

    @property
    def length(self) -> int:
        """Levels of an ID: what a generator has to say for one item."""
        return len(self.level_sizes)


def append_code(codes_NL: np.ndarray, level_sizes: list[int]) -> UniqueCodes:
    """Number the items of each collision group 0, 1, 2 … in row order on an extra last level.

    codes_NL: int [N,L]. The new level is as large as the largest group. `moved` counts items numbered above zero.
    """
    codes_NL = check_codes(codes_NL, check_level_sizes(level_sizes))
    number_N = numbers_within_groups(sort_keys(codes_NL))
    unique_NL = np.column_stack([codes_NL, number_N.astype(np.int32)])
    return _verified(unique_NL, [*level_sizes, int(number_N.max(initial=0)) + 1], int((number_N > 0).sum()), 0.0)


def nearest_free(
    codes_NL: np.ndarray, level_sizes: list[int], latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> UniqueCodes:
    """Move colliders to the nearest free code of the last level, and further up only where a prefix is full.

    codes_NL: int [N,L] as encoded. latent_ND and codebooks (per level float [V,D]): the space in which an item is
    approximated by the sum of one codebook row per level; see `tokenizer.quantizers`.
    First come, first served, the closest first. The optimal assignment within a prefix costs less, but also moves items
    that collide with nobody, and would undo codes that are not the nearest ones on purpose (balanced, random).
    Deterministic. Work grows with the number of colliders times the size of a level, memory with N.
    Raises TokenizerError when there are more items than IDs.
    """
    level_sizes = check_level_sizes(level_sizes)
    codes_NL = check_codes(codes_NL, level_sizes)
    check_capacity(len(codes_NL), level_sizes)
    space = CodeSpace.of(latent_ND, codebooks)
    return _compared(codes_NL, settle(codes_NL, space, level_sizes), level_sizes, space)


def sinkhorn_last_level(
    codes_NL: np.ndarray, level_sizes: list[int], latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> UniqueCodes:
    """Choose the last level's code of every item anew so that the level is used evenly, then make the IDs unique.

    Arguments and errors as for `nearest_free`; prefixes stay, unless one is full. A price per code, found by entropic
    optimal transport (`tokenizer.unique.sinkhorn`), makes all codes equally wanted; under a prefix where two items still want
    the same code all its items are assigned anew at the least total cost, or closest first where they are very many.
    Uniform load is what is asked for, so most items move and the error grows far more than with `nearest_free`.
    """
    level_sizes = check_level_sizes(level_sizes)
    codes_NL = check_codes(codes_NL, level_sizes)
    check_capacity(len(codes_NL), level_sizes)
    space = priced_space(codes_NL, latent_ND, codebooks)
    wishes_NL = cheapest_last_codes(codes_NL, space)
    assign_within_prefixes(wishes_NL, space)
    return _compared(codes_NL, settle(wishes_NL, space, level_sizes), level_sizes, space)


def numbers_within_groups(key_N: np.ndarray) -> np.ndarray:
    """0, 1, 2 … in row order for rows with the same key, int64 [N]."""
    order_N = np.argsort(key_N, kind="stable")
    position_N = np.arange(len(key_N))
    number_N = np.empty(len(key_N), dtype=np.int64)
    starts_N = np.where(first_of_run(key_N[order_N]), position_N, 0)
    number_N[order_N] = position_N - np.maximum.accumulate(starts_N)
    return number_N


def extra_error(before_NL: np.ndarray, after_NL: np.ndarray, space: CodeSpace) -> float:
    """Growth of the mean squared distance of all items to their codes, as a share of what it was; see UniqueCodes."""
    before = float(space.squared_residual(np.arange(len(before_NL)), before_NL).sum(dtype=np.float64))
    changed = np.flatnonzero((before_NL != after_NL).any(axis=1))
    gone = space.squared_residual(changed, before_NL[changed]).sum(dtype=np.float64)
    growth = float(space.squared_residual(changed, after_NL[changed]).sum(dtype=np.float64) - gone)
    return growth / before if before > 0 else float(growth > 0)


def check_capacity(items: int, level_sizes: list[int]) -> None:
    """TokenizerError when there are more items than IDs."""
    capacity = 1
    for size in level_sizes:
        capacity *= size
    if capacity < items:
        needed = -(-items // (capacity // level_sizes[-1]))
        raise TokenizerError(
            f"level_sizes {level_sizes} give {capacity} IDs for {items} items; "
            f"enlarge the last level to {needed} or more, or add a level."
        )


def _compared(before_NL: np.ndarray, after_NL: np.ndarray, level_sizes: list[int], space: CodeSpace) -> UniqueCodes:
    moved = int((before_NL != after_NL).any(axis=1).sum())
    return _verified(after_NL, level_sizes, moved, extra_error(before_NL, after_NL, space))


def _verified(codes_NL: np.ndarray, level_sizes: list[int], moved: int, error: float) -> UniqueCodes:
    """Trust nothing: the whole system downstream assumes that IDs are unique."""
    if not all_different(codes_NL):
        raise AssertionError(
            "two items still share an ID after resolving collisions; this is a bug in tokenizer.unique"
        )
    return UniqueCodes(np.ascontiguousarray(codes_NL, dtype=np.int32), list(level_sizes), moved, error)
