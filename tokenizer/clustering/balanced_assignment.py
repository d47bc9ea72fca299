"""Assignment of rows to clusters of equal size at close to the least sum of squared distances.

In Algorithm 1 of OneRec (arXiv 2502.18965) one cluster after another takes its share of the free rows, so the last clusters
get the rows that no other took. `balanced_assignment` minimises the sum of squared distances under the same condition (sizes
differ by at most one), which is a transport problem. Each cluster has a price, a dual variable of that problem, and a row
goes where squared distance plus price is least. Prices even out most of the loads. Then the few excess rows of a cluster
move, either along the cheapest chains of clusters (close to the optimum) or straight to the cheapest cluster with room (fast).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tokenizer.clustering.nearest import CHUNK_ELEMENTS, Scores, row_chunks

Rows = slice | np.ndarray
FIRST_STEP = 0.2  # first price cut of a cluster e times too small, as a share of the median regret
STEP_GROWTH, STEP_SHRINKAGE = 1.5, 0.5  # factors of that step while a cluster stays too small, and once it is too large
LARGEST_STEP = 2.0  # as a share of the median regret
CHAIN_ROUNDS = 64  # rounds of chains, at most; each moves rows along many chains that share no cluster
CHAIN_ROWS = 128  # chains are used up to this many rows per cluster; in larger clusters single rows matter little
DIRECT_ROUNDS = 8  # after this many rounds of direct moves, a round that moves few rows is the last
SAMPLE_ROWS = 128  # rows per cluster that a price round uses, at most, except in the last few rounds
FULL_ROUNDS = 3  # last price rounds, which use all rows
CANDIDATES = 6  # rows considered for leaving a cluster, as a multiple of its excess


@dataclass(frozen=True)
class Balanced:
    """index_N int64: the cluster of each row. price_K float32: the price of each cluster, added to the squared distance."""

    index_N: np.ndarray
    price_K: np.ndarray


class Costs:
    """Squared distances of rows to centroids, minus the row's squared length.

    rows_of: returns float32 rows [R,D] for a slice or indices. The costs are kept as one matrix if it takes at most a quarter
    of memory_mib; otherwise they are computed in chunks when needed.
    """

    def __init__(
        self, rows_of: Callable[[Rows], np.ndarray], count: int, centroids_KD: np.ndarray, memory_mib: int = 256
    ) -> None:
        self.count, self.clusters = count, len(centroids_KD)
        self.memory_mib = memory_mib
        self._rows_of, self._centroids_KD = rows_of, centroids_KD
        self._scores = Scores(centroids_KD)
        self._kept_NK: np.ndarray | None = None
        if count * self.clusters <= memory_mib << 16:
            self._kept_NK = np.empty((count, self.clusters), dtype=np.float32)
            for rows in self.slices(count):
                self._kept_NK[rows] = self._scores.of(rows_of(rows))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Costs [R,K] of few rows; the caller may overwrite them."""
        return self._scores.of(self._rows_of(rows)) if self._kept_NK is None else self._kept_NK[rows]

    def plus(self, price_K: np.ndarray, rows: slice) -> np.ndarray:
        """Costs [R,K] plus prices; the caller may overwrite them."""
        if self._kept_NK is not None:
            return np.asarray(self._kept_NK[rows] + price_K)
        cost_RK = self._scores.of(self._rows_of(rows))
        cost_RK += price_K
        return cost_RK

    def every(self, step: int) -> "Costs":
        """The costs of every `step`-th row."""
        rows_of = self._rows_of

        def rows_of_every(rows: Rows) -> np.ndarray:
            return rows_of(slice(rows.start * step, rows.stop * step, step) if isinstance(rows, slice) else rows * step)

        return Costs(rows_of_every, -(-self.count // step), self._centroids_KD, self.memory_mib)

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """These rows in chunks whose costs fit into memory at once."""
        return [rows[part] for part in self.slices(len(rows))]

    def slices(self, count: int) -> list[slice]:
        """Ranges of `count` rows whose costs fit into memory at once."""
        return row_chunks(count, max(self._centroids_KD.shape), min(CHUNK_ELEMENTS, self.memory_mib << 14))


class Prices:
    """The price of each cluster, and the step by which it changes.

    price_K: float32. The price of a cluster with too many rows rises until its excess would leave, if all other prices
    stayed. The price of a cluster with too few rows falls by a step, which grows while the cluster stays too small and
    shrinks once it has been too large.
    """

    def __init__(self, price_K: np.ndarray) -> None:
        self.price_K = price_K.astype(np.float32)
        self._step_K: np.ndarray | None = None
        self._excess = 1.0

    def adjust(self, costs: Costs) -> None:
        """One pass over the rows, then one change of all prices."""
        if costs.clusters == 1:
            return
        index_N, regret_N = _cheapest(costs, self.price_K)
        typical = float(np.median(regret_N))
        if self._step_K is None:
            self._step_K = np.full(costs.clusters, FIRST_STEP * typical, dtype=np.float32)
        load_K = np.bincount(index_N, minlength=costs.clusters)
        share = costs.count / costs.clusters
        excess_K = np.maximum(load_K - int(np.ceil(share)), 0)
        over, under = np.flatnonzero(excess_K), np.flatnonzero(load_K < int(share))
        by_cluster_N = np.lexsort((regret_N, index_N))
        last_to_leave = by_cluster_N[(np.cumsum(load_K) - load_K + excess_K - 1)[over]]
        self.price_K[over] += regret_N[last_to_leave]
        self.price_K[under] -= self._step_K[under] * np.log((share + 1) / (load_K[under] + 1)).astype(np.float32)
        self._step_K[under] *= STEP_GROWTH
        self._step_K[over] *= STEP_SHRINKAGE
        excess = int(excess_K.sum()) / costs.count
        if excess > self._excess:
            self._step_K *= STEP_SHRINKAGE
        self._excess = excess
        np.minimum(self._step_K, LARGEST_STEP * typical, out=self._step_K)


def balanced_assignment(costs: Costs, prices: Prices, *, price_rounds: int = 15, chains: bool = True) -> Balanced:
    """Assign rows to clusters whose sizes differ by at most one, at close to the least sum of squared distances.

    prices: initial prices, adjusted in place by price_rounds passes. With many rows, the first passes use a sample. chains:
    first move rows along the cheapest chains, if clusters are small enough and K x K numbers fit into memory. Beside `costs`,
    memory is a few numbers per row and, for chains, these K x K numbers.
    """
    step = costs.count // (SAMPLE_ROWS * costs.clusters) + 1
    sampled = costs if step == 1 or price_rounds <= FULL_ROUNDS else costs.every(step)
    for number in range(price_rounds):
        prices.adjust(sampled if number < price_rounds - FULL_ROUNDS else costs)
    index_N, regret_N = _cheapest(costs, prices.price_K)
    price_K = prices.price_K.copy()
    if chains and costs.count <= CHAIN_ROWS * costs.clusters and costs.clusters**2 <= costs.memory_mib << 16:
        price_K = _Chains(costs, index_N, price_K).move()
    _move_directly(costs, index_N, regret_N, even_sizes(np.bincount(index_N, minlength=costs.clusters), price_K))
    return Balanced(index_N, price_K)


def even_sizes(load_K: np.ndarray, price_K: np.ndarray) -> np.ndarray:
    """Sizes [K] that differ by at most one and sum to that of load_K; clusters in most demand get the extra row."""
    least, extra = divmod(int(load_K.sum()), len(load_K))
    size_K = np.full(len(load_K), least)
    size_K[np.lexsort((-price_K, -np.minimum(load_K, least + 1)))[:extra]] += 1
    return size_K


def _cheapest(costs: Costs, price_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest cluster of every row, and its regret: how much more the second cheapest costs."""
    index_N = np.empty(costs.count, dtype=np.int64)
    regret_N = np.empty(costs.count, dtype=np.float32)
    for rows in costs.slices(costs.count):
        price_RK = costs.plus(price_K, rows)
        index_R = price_RK.argmin(1)
        every_R = np.arange(len(index_R))
        least_R = price_RK[every_R, index_R]
        price_RK[every_R, index_R] = np.inf
        index_N[rows], regret_N[rows] = index_R, price_RK.min(1) - least_R  # infinite if there is only one cluster
    return index_N, regret_N


def _move_directly(costs: Costs, index_N: np.ndarray, regret_N: np.ndarray, size_K: np.ndarray) -> None:
    """Move rows from too large clusters to the cheapest with room, least extra cost first; changes index_N in place."""
    excess_K = np.bincount(index_N, minlength=costs.clusters) - size_K
    rows = np.flatnonzero(excess_K[index_N] > 0)
    # rows with the largest regret stay, since enough others can move
    rows = rows[_rank_within(index_N[rows], regret_N[rows]) < CANDIDATES * excess_K[index_N[rows]]]
    number = 0
    while len(rows):
        number += 1
        target, extra = _cheapest_with_room(costs, rows, index_N, excess_K)
        moves = np.flatnonzero(_rank_within(index_N[rows], extra) < excess_K[index_N[rows]])
        moves = moves[_rank_within(target[moves], extra[moves]) < -excess_K[target[moves]]]
        waiting = int(excess_K[excess_K > 0].sum())
        _move(index_N, excess_K, rows[moves], target[moves])
        rows = np.delete(rows, moves)
        rows = rows[excess_K[index_N[rows]] > 0]
        if number >= DIRECT_ROUNDS and len(moves) * 64 < waiting:  # many equal rows: any of them can move
            rows = rows[_rank_within(index_N[rows], np.zeros(len(rows))) < excess_K[index_N[rows]]]
            _move(index_N, excess_K, rows, np.repeat(np.arange(costs.clusters), np.maximum(-excess_K, 0)))
            return


def _cheapest_with_room(
    costs: Costs, rows: np.ndarray, index_N: np.ndarray, excess_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest cluster with room for each row, and its extra cost over the row's own cluster."""
    full_K = np.where(excess_K < 0, np.float32(0), np.float32(np.inf))
    targets, extras = [], []
    for part in costs.parts(rows):
        cost_RK = costs.of(part)
        every_R = np.arange(len(part))
        own_R = cost_RK[every_R, index_N[part]]
        cost_RK += full_K
        target_R = cost_RK.argmin(1)
        targets.append(target_R)
        extras.append(cost_RK[every_R, target_R] - own_R)
    return np.concatenate(targets), np.concatenate(extras)


def _move(index_N: np.ndarray, excess_K: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:
    excess_K -= np.bincount(index_N[rows], minlength=len(excess_K))
    excess_K += np.bincount(target, minlength=len(excess_K))
    index_N[rows] = target


def _rank_within(group_M: np.ndarray, value_M: np.ndarray) -> np.ndarray:
    """Rank of each value within its group, int64 [M]; among equal values the earlier one ranks first."""
    order_M = np.lexsort((value_M, group_M))
    sorted_M = group_M[order_M]
    rank_M = np.empty(len(group_M), dtype=np.int64)
    rank_M[order_M] = np.arange(len(group_M)) - np.searchsorted(sorted_M, sorted_M)
    return rank_M


class _Chains:
    """Moves rows along the cheapest chains.

    A chain moves a row of a too large cluster to a second one, a row of that one to a third, and so on to a cluster with
    room. Chains are shortest paths in the graph of clusters. The edge from a to b costs the least extra cost of any row of a
    that moves to b. With prices as potentials, no edge has a negative cost.
    """

    def __init__(self, costs: Costs, index_N: np.ndarray, price_K: np.ndarray) -> None:
        self.costs, self.index_N, self.price_K = costs, index_N, price_K
        self.load_K = np.bincount(index_N, minlength=costs.clusters)
        self.size_K = even_sizes(self.load_K, price_K)
        self.edge_KK = np.full((costs.clusters, costs.clusters), np.inf, dtype=np.float32)  # [to, from]

    def move(self) -> np.ndarray:
        """Change index_N until no cluster is too large, no chain is found, or CHAIN_ROUNDS have passed.

        Returns prices at which rows would choose about the clusters that they are in now.
        """
        touched = np.arange(len(self.load_K))
        potential_K = self.price_K.copy()
        for _ in range(CHAIN_ROUNDS):
            if not (self.load_K > self.size_K).any():
                break
            by_cluster_N = np.argsort(self.index_N, kind="stable")
            members = np.split(by_cluster_N, np.cumsum(self.load_K)[:-1])
            self._weigh_edges(touched, members)
            distance_K, before_K = self._shortest_paths(potential_K)
            chains = self._separate_chains(distance_K, before_K)
            if not chains:
                break
            for chain in chains:
                self._move_along(chain, members)
            potential_K -= np.minimum(distance_K, distance_K[[chain[0] for chain in chains]].max())
            touched = np.unique(np.concatenate(chains))
        return potential_K

    def _weigh_edges(self, touched: np.ndarray, members: list[np.ndarray]) -> None:
        for cluster in touched:
            extra_K = np.full(len(self.load_K), np.inf, dtype=np.float32)
            for rows in self.costs.parts(members[cluster]):
                cost_RK = self.costs.of(rows)
                extra_K = np.minimum(extra_K, (cost_RK - cost_RK[:, cluster, None]).min(0))
            extra_K[cluster] = np.inf
            self.edge_KK[:, cluster] = extra_K

    def _shortest_paths(self, potential_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cost of the cheapest chain from a too large cluster to each cluster, and its predecessor (Bellman, Ford)."""
        weight_KK = self.edge_KK + potential_K[:, None]
        weight_KK -= potential_K
        np.maximum(weight_KK, 0, out=weight_KK)  # rounding, or several chains moved at once, can make it negative
        distance_K = np.where(self.load_K > self.size_K, np.float32(0), np.float32(np.inf))
        before_K, every_K = np.full(len(distance_K), -1), np.arange(len(distance_K))
        for _ in every_K:
            through_KK = weight_KK + distance_K
            nearest_K = through_KK.argmin(1)
            better_K = through_KK[every_K, nearest_K] < distance_K
            if not better_K.any():
                break
            before_K[better_K] = nearest_K[better_K]
            distance_K[better_K] = through_KK[every_K, nearest_K][better_K]
        return distance_K, before_K

    def _separate_chains(self, distance_K: np.ndarray, before_K: np.ndarray) -> list[list[int]]:
        """Chains that share no cluster, cheapest first, each from a cluster with room back to a too large one."""
        used_K = np.zeros(len(distance_K), dtype=bool)
        ends = np.flatnonzero((self.load_K < self.size_K) & np.isfinite(distance_K))
        chains = []
        for end in ends[np.argsort(distance_K[ends], kind="stable")]:
            chain = [int(end)]
            while not used_K[chain[-1]] and before_K[chain[-1]] >= 0:
                chain.append(int(before_K[chain[-1]]))
            if not used_K[chain].any():
                used_K[chain] = True
                chains.append(chain)
        return chains

    def _move_along(self, chain: list[int], members: list[np.ndarray]) -> None:
        for to, source in pairwise(chain):
            least, mover = np.inf, -1
            for rows in self.costs.parts(members[source]):
                cost_RK = self.costs.of(rows)
                extra_R = cost_RK[:, to] - cost_RK[:, source]
                if extra_R.min() < least:
                    least, mover = float(extra_R.min()), int(rows[extra_R.argmin()])
            self.index_N[mover] = to
        self.load_K[chain[0]] += 1
        self.load_K[chain[-1]] -= 1
