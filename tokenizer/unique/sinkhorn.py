"""Prices that make every code of the last level equally wanted: entropic optimal transport between items and codes.

LC-Rec (arXiv 2311.09049, "uniform semantic mapping") asks that items spread evenly over the last level's codes and solves
the transport problem by Sinkhorn-Knopp (Cuturi, arXiv 1306.0895). Its solution is a price per code: an item goes where
squared distance plus price is least. One number per code is all that has to be kept, whatever the number of items.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from tokenizer.unique.free_ids import ROWS, CodeSpace
from tokenizer.unique.id_order import group_numbers, sort_keys

COST_ELEMENTS = 1 << 24  # items × codes from which prices are found; 64 MiB of float32, and as much again to work in
ASSIGNMENT_STEPS = 1 << 26  # items² × codes of a prefix group up to which its codes are assigned exactly
CONVERGED = 0.01  # largest departure of a code's load from the mean at which prices are good enough


def uniform_prices(cost_NV: np.ndarray, *, sharpness: float = 0.05, iterations: int = 50) -> np.ndarray:
    """A price per code, float32 [V], at which the codes' loads are equal when items choose softly.

    cost_NV: what each code costs each item, up to a constant per item. sharpness: how soft the choice is, as a share of
    what an average code costs more than the best one; smaller is nearer to a hard choice and slower to converge.
    """
    codes = cost_NV.shape[1]
    price_V = np.zeros(codes, dtype=np.float32)
    softness = sharpness * float((cost_NV.mean(axis=1) - cost_NV.min(axis=1)).mean())
    if softness <= 0:  # all codes cost the same
        return price_V
    for _ in range(iterations):
        share_NV = (cost_NV + price_V) / np.float32(-softness)
        share_NV -= share_NV.max(axis=1, keepdims=True)
        np.exp(share_NV, out=share_NV)
        share_NV /= share_NV.sum(axis=1, keepdims=True)
        load_V = share_NV.mean(axis=0) * codes
        if np.abs(load_V - 1).max() < CONVERGED:
            break
        price_V += softness * np.log(np.maximum(load_V, 1e-30, dtype=np.float32))
    return price_V - price_V.mean()


def priced_space(codes_NL: np.ndarray, latent_NW: np.ndarray, codebooks: list[np.ndarray]) -> CodeSpace:
    """The code space with uniform prices on the last level, found from an even sample of the items where they are many."""
    space = CodeSpace.of(latent_NW, codebooks)
    rows = min(len(codes_NL), max(1, COST_ELEMENTS // len(codebooks[-1])))
    sample = np.linspace(0, len(codes_NL) - 1, rows).astype(np.int64)
    cost_NV = np.empty((rows, len(codebooks[-1])), dtype=np.float32)
    for start in range(0, rows, ROWS):
        block = sample[start : start + ROWS]
        cost_NV[start : start + ROWS] = space.cost(space.residual(block, codes_NL[block, :-1]), len(codebooks) - 1)
    return CodeSpace(latent_NW, codebooks, uniform_prices(cost_NV))


def cheapest_last_codes(codes_NL: np.ndarray, space: CodeSpace) -> np.ndarray:
    """The codes with the cheapest one on the last level, int32 [N,L]; a code that is as cheap stays."""
    wishes_NL = np.array(codes_NL, dtype=np.int32)
    for start in range(0, len(codes_NL), ROWS):
        block = np.arange(start, min(start + ROWS, len(codes_NL)))
        cost_RV = space.cost(space.residual(block, codes_NL[block, :-1]), codes_NL.shape[1] - 1)
        own_R = cost_RV[np.arange(len(block)), codes_NL[block, -1]]
        wishes_NL[block, -1] = np.where(cost_RV.min(axis=1) < own_R, cost_RV.argmin(axis=1), codes_NL[block, -1])
    return wishes_NL


def assign_within_prefixes(wishes_NL: np.ndarray, space: CodeSpace) -> None:
    """Give all items of a prefix with collisions different last codes at the least total cost; changes wishes_NL.

    Exact (Jonker and Volgenant's method as in SciPy). Prefixes with more items than codes, or too many for it to be
    quick (see ASSIGNMENT_STEPS), are left as they are.
    """
    prefix_N = group_numbers(sort_keys(wishes_NL[:, :-1]))
    distinct_G = np.bincount(prefix_N[np.unique(sort_keys(wishes_NL), return_index=True)[1]])
    items_G, codes = np.bincount(prefix_N), len(space.codebooks[-1])
    wanted_G = (
        (distinct_G < items_G) & (items_G <= codes) & (items_G.astype(np.float64) ** 2 * codes <= ASSIGNMENT_STEPS)
    )
    rows = np.flatnonzero(wanted_G[prefix_N])
    rows = rows[np.argsort(prefix_N[rows], kind="stable")]
    for members in np.split(rows, np.cumsum(items_G[wanted_G])[:-1]):
        if not len(members):
            continue
        cost_RV = space.cost(space.residual(members, wishes_NL[members, :-1]), wishes_NL.shape[1] - 1)
        if (cost_RV == cost_RV[:, :1]).all():
            continue  # nothing to choose by
        wishes_NL[members, -1] = linear_sum_assignment(cost_RV)[1]
