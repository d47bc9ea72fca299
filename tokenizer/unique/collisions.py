"""Three ways to give items with the same codes different IDs, and what each costs.

`append_code` adds a level that numbers the items with the same codes, as TIGER does (arXiv 2305.05065). No code changes, but
every ID grows by one level. `nearest_free` keeps the length: the item closest to its codes keeps them, and the others take
the nearest free code of the last level under their prefix. Only when a prefix is full does an item move to another prefix.
`sinkhorn_last_level` also keeps the length. It chooses the last code of all items again, so that the codes of the last level
are used evenly (LC-Rec, arXiv 2311.09049).
"""

import math
from dataclasses import dataclass

import numpy as np

from tokenizer.common.checks import check_codes, check_level_sizes
from tokenizer.errors import TokenizerError
from tokenizer.unique.free_ids import CodeSpace, settle
from tokenizer.unique.id_order import all_different, sort_keys
from tokenizer.unique.sinkhorn import assign_within_prefixes, cheapest_last_codes, priced_space


@dataclass(frozen=True)
class UniqueCodes:
    """Unique IDs and their cost.

    codes_NL: int32, all rows different. level_sizes: of its levels. moved: items whose ID differs from their codes (with an
    appended code: items numbered above zero). extra_error: relative growth of the mean squared distance of items to their
    codes. It is negative if the distance shrank, and 1.0 if the distance was zero before and is not any more.
    """

    codes_NL: np.ndarray
    level_sizes: list[int]
    moved: int
    extra_error: float = 0.0


def append_code(codes_NL: np.ndarray, level_sizes: list[int]) -> UniqueCodes:
    """Number items with the same codes 0, 1, 2 … in row order on an extra last level.

    codes_NL: int [N,L]. The new level is as large as the largest group. `moved` counts items numbered above zero.
    """
    codes_NL = check_codes(codes_NL, check_level_sizes(level_sizes))
    number_N = numbers_within_groups(sort_keys(codes_NL))
    unique_NL = np.column_stack([codes_NL, number_N.astype(np.int32)])
    return _verified(unique_NL, [*level_sizes, int(number_N.max(initial=0)) + 1], int((number_N > 0).sum()), 0.0)


def nearest_free(
    codes_NL: np.ndarray, level_sizes: list[int], latent_ND: np.ndarray, codebooks: list[np.ndarray]
) -> UniqueCodes:
    """Move colliding items to the nearest free code of the last level, or to another prefix if their own is full.

    codes_NL: int [N,L] as encoded. latent_ND and codebooks (per level float [V,D]): the space in which the sum of one
    codebook row per level approximates an item; see `tokenizer.quantizers`.
    Items are served in order of distance to their codes, the closest first. An optimal assignment within a prefix would cost
    less, but it would also move items without a collision, and undo codes that are not the nearest on purpose (balanced,
    random). Deterministic. Work grows with the number of colliding items times the size of a level, memory with N.
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
    """Choose the last code of every item again, so that the last level is used evenly, then make the IDs unique.

    Arguments and errors as for `nearest_free`. An item keeps its prefix unless the prefix is full. Entropic optimal transport
    (`tokenizer.unique.sinkhorn`) gives each code a price, at which all codes are in equal demand. Where two items under a
    prefix still want the same code, all items of the prefix are assigned again at the least total cost, or the closest
    first if there are very many. The goal is an even load, so most items move, and the error grows far more than with
    `nearest_free`.
    """
    level_sizes = check_level_sizes(level_sizes)
    codes_NL = check_codes(codes_NL, level_sizes)
    check_capacity(len(codes_NL), level_sizes)
    space = priced_space(codes_NL, latent_ND, codebooks)
    wishes_NL = cheapest_last_codes(codes_NL, space)
    assign_within_prefixes(wishes_NL, space)
    return _compared(codes_NL, settle(wishes_NL, space, level_sizes), level_sizes, space)


def numbers_within_groups(key_N: np.ndarray) -> np.ndarray:
    """Number rows with the same key 0, 1, 2 … in row order, int64 [N]."""
    order_N = np.argsort(key_N, kind="stable")
    sorted_N = key_N[order_N]
    number_N = np.empty(len(key_N), dtype=np.int64)
    number_N[order_N] = np.arange(len(key_N)) - np.searchsorted(sorted_N, sorted_N)
    return number_N


def extra_error(before_NL: np.ndarray, after_NL: np.ndarray, space: CodeSpace) -> float:
    """Relative growth of the mean squared distance of all items to their codes; see UniqueCodes."""
    before = float(space.squared_residual(np.arange(len(before_NL)), before_NL).sum(dtype=np.float64))
    changed = np.flatnonzero((before_NL != after_NL).any(axis=1))
    gone = space.squared_residual(changed, before_NL[changed]).sum(dtype=np.float64)
    growth = float(space.squared_residual(changed, after_NL[changed]).sum(dtype=np.float64) - gone)
    return growth / before if before > 0 else float(growth > 0)


def check_capacity(items: int, level_sizes: list[int]) -> None:
    """TokenizerError when there are more items than IDs."""
    capacity = math.prod(level_sizes)
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
    """Check once more that IDs are unique, because everything downstream relies on it."""
    if not all_different(codes_NL):
        raise AssertionError(
            "two items still share an ID after resolving collisions; this is a bug in tokenizer.unique"
        )
    return UniqueCodes(np.ascontiguousarray(codes_NL, dtype=np.int32), list(level_sizes), moved, error)
