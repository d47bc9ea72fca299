"""Give each item a free ID close to the codes it wishes for: the closest item first, its own prefix first.

`tokenizer.unique.collisions` uses this with no ID taken, and `tokenizer.append` with published IDs, which must not change.
"""

from dataclasses import dataclass

import numpy as np

from tokenizer.unique.id_order import TakenIds, first_of_run, group_numbers, sort_keys

ROWS = 1024  # items whose distances to a codebook are computed at once


@dataclass(frozen=True)
class CodeSpace:
    """The space of items and codes: the sum of one codebook row per level approximates an item.

    latent_NW: the items. codebooks: per level float [V,W]. price_V: added to the squared distances to the codes of the last
    level, to make some of them less attractive.
    """

    latent_NW: np.ndarray
    codebooks: list[np.ndarray]
    price_V: np.ndarray | float = 0.0

    def residual(self, rows: np.ndarray, codes_RL: np.ndarray) -> np.ndarray:
        """Rows minus the sum of their codes [R,l] on the first l levels, float [R,W]."""
        residual_RW = self.latent_NW[rows]  # an index array copies
        for level in range(codes_RL.shape[1]):
            residual_RW = residual_RW - self.codebooks[level][codes_RL[:, level]]
        return np.asarray(residual_RW)

    def squared_residual(self, rows: np.ndarray, codes_RL: np.ndarray) -> np.ndarray:
        """Squared distance of rows to the sum of their codes, without prices, float [R]; computed in blocks."""
        parts = [np.zeros(0, dtype=np.float32)]
        for start in range(0, len(rows), ROWS):
            block = slice(start, start + ROWS)
            parts.append(np.square(self.residual(rows[block], codes_RL[block])).sum(axis=1))
        return np.concatenate(parts)

    def cost(self, residual_RW: np.ndarray, level: int) -> np.ndarray:
        """Squared distance to the codes of a level, up to a constant per row, plus prices on the last level, [R,V]."""
        codebook_VW = self.codebooks[level]
        offset_V = np.square(codebook_VW).sum(axis=1)
        if level == len(self.codebooks) - 1:
            offset_V = offset_V + self.price_V
        return np.asarray(offset_V - 2.0 * (residual_RW @ codebook_VW.T))


def settle(
    wishes_RL: np.ndarray, space: CodeSpace, level_sizes: list[int], published_PL: np.ndarray | None = None
) -> np.ndarray:
    """Find a free ID for every row, int32 [R,L]: all different, none of them published.

    wishes_RL: the codes that the rows would like, in the order of `space.latent_NW`. published_PL: IDs that are taken.
    A free wish goes to the row closest to it (the first among equals). The other rows, the closest first, take the cheapest
    free code of the last level under their prefix. Only when this prefix is full does a row go to another prefix.
    There must be room for all rows. Deterministic. Work grows with the rows that cannot have their wish times the size of a
    level.
    """
    ids_RL = np.array(wishes_RL, dtype=np.int32)
    if published_PL is None:
        published_PL = np.zeros((0, ids_RL.shape[1]), dtype=np.int32)
    placed_R = _granted(ids_RL, space, published_PL)
    movers = np.flatnonzero(~placed_R)
    if not len(movers):
        return ids_RL
    taken = TakenIds(np.concatenate([published_PL, ids_RL[placed_R]]), level_sizes)
    waiting = _move_within_prefix(ids_RL, movers, space, taken)
    if waiting:
        placed_R[:] = True
        placed_R[waiting] = False
        taken = TakenIds(np.concatenate([published_PL, ids_RL[placed_R]]), level_sizes)
        _move_to_other_prefix(ids_RL, waiting, space, taken)
    return ids_RL


def _granted(wishes_RL: np.ndarray, space: CodeSpace, published_PL: np.ndarray) -> np.ndarray:
    """Rows that get their wish, bool [R]."""
    group = group_numbers(sort_keys(np.concatenate([published_PL, wishes_RL])))
    rivals_G = np.bincount(group)
    published_G = np.zeros(len(rivals_G), dtype=bool)
    published_G[group[: len(published_PL)]] = True
    group_R = group[len(published_PL) :]
    granted_R = np.ones(len(wishes_RL), dtype=bool)
    contested = np.flatnonzero(rivals_G[group_R] > 1)
    distance = space.squared_residual(contested, wishes_RL[contested])
    contested = contested[np.lexsort((contested, distance, group_R[contested]))]
    wins = first_of_run(group_R[contested]) & ~published_G[group_R[contested]]
    granted_R[contested[~wins]] = False
    return granted_R


def _move_within_prefix(ids_RL: np.ndarray, movers: np.ndarray, space: CodeSpace, taken: TakenIds) -> list[int]:
    """Place movers, the closest first, on free last-level codes of their prefix. Return those whose prefix is full."""
    prefix_M = sort_keys(ids_RL[movers, :-1])
    order_M = np.lexsort((movers, space.squared_residual(movers, ids_RL[movers]), prefix_M))
    movers, first_M = movers[order_M], first_of_run(prefix_M[order_M])
    full: list[int] = []
    taken_V = np.zeros(len(space.codebooks[-1]), dtype=bool)
    for start in range(0, len(movers), ROWS):
        block = movers[start : start + ROWS]
        cost_RV = space.cost(space.residual(block, ids_RL[block, :-1]), len(space.codebooks) - 1)
        for row, new_prefix, cost_V in zip(block, first_M[start : start + ROWS], cost_RV, strict=True):
            if new_prefix:
                taken_V[:] = False
                taken_V[taken.below(tuple(ids_RL[row, :-1].tolist()))] = True
            code = int(np.where(taken_V, np.inf, cost_V).argmin())
            if taken_V[code]:
                full.append(int(row))
                continue
            ids_RL[row, -1] = code
            taken_V[code] = True
    return full


def _move_to_other_prefix(ids_RL: np.ndarray, waiting: list[int], space: CodeSpace, taken: TakenIds) -> None:
    """Place each row in the nearest branch with room, under the longest prefix that has room; changes ids_RL.

    Rows that find room under a long prefix are all placed before any row tries a shorter prefix. So no item loses its prefix
    to an item from another one.
    """
    levels = ids_RL.shape[1]
    for depth in range(levels - 2, -1, -1):
        still_waiting = []
        for row in waiting:
            prefix = tuple(ids_RL[row, :depth].tolist())
            if not taken.open_codes(prefix).any():
                still_waiting.append(row)
                continue
            for level in range(depth, levels):
                residual_1W = space.residual(np.array([row]), np.array([prefix], dtype=np.int64).reshape(1, -1))
                cost_V = space.cost(residual_1W, level)[0]
                prefix = (*prefix, int(np.where(taken.open_codes(prefix), cost_V, np.inf).argmin()))
            taken.take(prefix)
            ids_RL[row] = prefix
        waiting = still_waiting
