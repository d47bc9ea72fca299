"""Prices at which all codes of the last level are in equal demand, by entropic optimal transport of items to codes.

LC-Rec (arXiv 2311.09049, "uniform semantic mapping") requires that items spread evenly over the codes of the last level. It
solves this transport problem by Sinkhorn-Knopp (Cuturi, arXiv 1306.0895). The solution is one price per code, whatever the
number of items: an item goes where squared distance plus price is least.
"""

import numpy as np

from tokenizer.unique.free_ids import ROWS, CodeSpace
from tokenizer.unique.id_order import group_numbers, sort_keys

COST_ELEMENTS = 1 << 24  # items × codes used to find prices; 64 MiB of float32, and the same again for temporaries
ASSIGNMENT_STEPS = 1 << 26  # largest items² × codes of a prefix for which the assignment is exact
CONVERGED = 0.01  # iterations stop when every code's load is within this share of the mean


def uniform_prices(cost_NV: np.ndarray, *, sharpness: float = 0.05, iterations: int = 50) -> np.ndarray:
    """One price per code, float32 [V], at which all codes have the same load if items choose by softmax.

    cost_NV: cost of each code for each item, up to a constant per item. sharpness: temperature of the softmax, as a share of
    the mean extra cost of a code over the best one. A smaller value is closer to a hard choice and converges more slowly.
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
    """The code space with uniform prices on the last level; they are found from an even sample if there are many items."""
    space = CodeSpace(latent_NW, codebooks)
    rows = min(len(codes_NL), max(1, COST_ELEMENTS // len(codebooks[-1])))
    sample = np.linspace(0, len(codes_NL) - 1, rows).astype(np.int64)
    cost_NV = np.empty((rows, len(codebooks[-1])), dtype=np.float32)
    for start in range(0, rows, ROWS):
        block = sample[start : start + ROWS]
        cost_NV[start : start + ROWS] = space.cost(space.residual(block, codes_NL[block, :-1]), len(codebooks) - 1)
    return CodeSpace(latent_NW, codebooks, uniform_prices(cost_NV))


def cheapest_last_codes(codes_NL: np.ndarray, space: CodeSpace) -> np.ndarray:
    """Replace each last code by the cheapest one, int32 [N,L]; a code that is just as cheap stays."""
    wishes_NL = np.array(codes_NL, dtype=np.int32)
    for start in range(0, len(codes_NL), ROWS):
        block = np.arange(start, min(start + ROWS, len(codes_NL)))
        cost_RV = space.cost(space.residual(block, codes_NL[block, :-1]), codes_NL.shape[1] - 1)
        own_R = cost_RV[np.arange(len(block)), codes_NL[block, -1]]
        wishes_NL[block, -1] = np.where(cost_RV.min(axis=1) < own_R, cost_RV.argmin(axis=1), codes_NL[block, -1])
    return wishes_NL


def assign_within_prefixes(wishes_NL: np.ndarray, space: CodeSpace) -> None:
    """Give all items of a prefix with collisions different last codes at the least total cost; changes wishes_NL.

    The assignment is exact (Jonker and Volgenant's method in SciPy). A prefix is left unchanged if it has more items than
    codes, or too many items for a fast assignment (see ASSIGNMENT_STEPS).
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and a list needs the codes alone

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
            continue  # all codes cost the same
        wishes_NL[members, -1] = linear_sum_assignment(cost_RV)[1]
