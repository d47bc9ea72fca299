"""Clusters of equal size: rows go where squared distance plus the cluster's price is least, prices even out the loads.

Algorithm 1 of OneRec (arXiv 2502.18965) lets cluster after cluster take its share of the rows still free, and the last
clusters get what nobody wanted; `algorithm_1` is that, kept as a reference. `balanced_assignment` goes for the least sum
of squared distances under the same condition (sizes differ by one at most), a transport problem: prices, the dual
variables of that problem, nearly even out the loads, then the few rows still too many in a cluster move on, either along
the cheapest chains of clusters (close to the best there is) or straight to the cheapest cluster with room (fast).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tokenizer.clustering.nearest import CHUNK_ELEMENTS, Scores, row_chunks

Rows = slice | np.ndarray
FIRST_STEP = 0.2  # of the median regret: what a cluster e times too small is made cheaper by, at first
STEP_GROWTH, STEP_SHRINKAGE = 1.5, 0.5  # of that step while a cluster stays too small, and once it is too large
LARGEST_STEP = 2.0  # of the median regret
CHAIN_ROUNDS = 64  # rounds of chains at most; each moves rows along many chains that share no cluster
CHAIN_ROWS = 128  # rows per cluster up to which single rows matter enough to look for chains
DIRECT_ROUNDS = 8  # after so many rounds of direct moves a round that moves few rows is the last
SAMPLE_ROWS = 128  # rows per cluster that all price rounds but the last few look at, at most
FULL_ROUNDS = 3  # price rounds that look at all rows
CANDIDATES = 6  # times the excess of a cluster: rows of it that are considered for leaving


@dataclass(frozen=True)
class Balanced:
    """index_N int64: the cluster of each row. price_K float32: what each cluster costs beside the squared distance."""

    index_N: np.ndarray
    price_K: np.ndarray


class Costs:
    """Squared distances of rows to centroids, less the row's squared length; never all of them unless they fit.

    rows_of: gives float32 rows [R,D] for a slice or indices. They are kept as one matrix where that takes at most a
    quarter of memory_mib, else made by chunks whenever they are asked for.
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
            for start, stop in self._ranges(count):
                self._kept_NK[start:stop] = self._scores.of(rows_of(slice(start, stop)))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Costs [R,K] of few rows, the caller's to change."""
        return self._scores.of(self._rows_of(rows)) if self._kept_NK is None else self._kept_NK[rows]

    def plus(self, price_K: np.ndarray, rows: slice) -> np.ndarray:
        """Costs [R,K] with prices, the caller's to change."""
        if self._kept_NK is not None:
            return np.asarray(self._kept_NK[rows] + price_K)
        cost_RK = self._scores.of(self._rows_of(rows))
        cost_RK += price_K
        return cost_RK

    def every(self, step: int) -> "Costs":
        """The costs of each `step`-th row."""
        rows_of = self._rows_of

        def rows_of_every(rows: Rows) -> np.ndarray:
            return rows_of(slice(rows.start * step, rows.stop * step, step) if isinstance(rows, slice) else rows * step)

        return Costs(rows_of_every, -(-self.count // step), self._centroids_KD, self.memory_mib)

    def slices(self) -> list[slice]:
        """All rows in chunks whose costs may be asked for at once."""
        return [slice(start, stop) for start, stop in self._ranges(self.count)]

    def parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """The rows named, in chunks whose costs may be asked for at once."""
        return [rows[start:stop] for start, stop in self._ranges(len(rows))]

    def _ranges(self, count: int) -> list[tuple[int, int]]:
        return row_chunks(count, max(self._centroids_KD.shape), min(CHUNK_ELEMENTS, self.memory_mib << 14))


class Prices:
    """What each cluster costs beside the squared distance, and how boldly that still changes.

    price_K: float32. A cluster with too many rows becomes as dear as it takes for the excess to leave it, were all
    other prices to stay. One with too few becomes cheaper by a step that grows while it stays too small and shrinks
    once it has been too large.
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
    """Assign rows to clusters whose sizes differ by one at most, at close to the least sum of squared distances.

    prices: where to start; adjusted in place by price_rounds passes, the first of them over a sample where there are
    many rows. chains: look for the cheapest chains of moves first, where clusters are small enough. Beside `costs`,
    memory is a few numbers per row and, for chains, K x K numbers, which are done without if they do not fit.
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


def algorithm_1(x_ND: np.ndarray, centroids_KD: np.ndarray) -> np.ndarray:
    """One round of Algorithm 1 of OneRec (arXiv 2502.18965): cluster by cluster the nearest rows still free, int64 [N].

    Where N is no multiple of K, the first clusters take one row more. The paper also moves the centroid to the mean of
    its rows before the next cluster's turn, which changes nothing for the others.
    """
    free_N = np.arange(len(x_ND))
    index_N = np.empty(len(x_ND), dtype=np.int64)
    for cluster, centroid_D in enumerate(centroids_KD):
        size = len(x_ND) // len(centroids_KD) + (cluster < len(x_ND) % len(centroids_KD))
        nearest = np.argsort(np.square(x_ND[free_N] - centroid_D).sum(1), kind="stable")[:size]
        index_N[free_N[nearest]] = cluster
        free_N = np.delete(free_N, nearest)
    return index_N


def even_sizes(load_K: np.ndarray, price_K: np.ndarray) -> np.ndarray:
    """Sizes [K] with the sum of load_K that differ by one at most; those in most demand get the extra row."""
    least, extra = divmod(int(load_K.sum()), len(load_K))
    size_K = np.full(len(load_K), least)
    size_K[np.lexsort((-price_K, -np.minimum(load_K, least + 1)))[:extra]] += 1
    return size_K


def _cheapest(costs: Costs, price_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest cluster of every row, and by how much the second cheapest is dearer."""
    index_N = np.empty(costs.count, dtype=np.int64)
    regret_N = np.empty(costs.count, dtype=np.float32)
    for rows in costs.slices():
        price_RK = costs.plus(price_K, rows)
        index_R = price_RK.argmin(1)
        every_R = np.arange(len(index_R))
        least_R = price_RK[every_R, index_R]
        price_RK[every_R, index_R] = np.inf
        index_N[rows], regret_N[rows] = index_R, price_RK.min(1) - least_R  # infinite where there is but one cluster
    return index_N, regret_N


def _move_directly(costs: Costs, index_N: np.ndarray, regret_N: np.ndarray, size_K: np.ndarray) -> None:
    """Move rows out of clusters that are too large to the cheapest with room, least extra cost first; changes index_N."""
    excess_K = np.bincount(index_N, minlength=costs.clusters) - size_K
    rows = np.flatnonzero(excess_K[index_N] > 0)
    # rows that would suffer most stay where they are: there are others to choose from
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
        if number >= DIRECT_ROUNDS and len(moves) * 64 < waiting:  # masses of equal rows: any of them will do
            rows = rows[_rank_within(index_N[rows], np.zeros(len(rows))) < excess_K[index_N[rows]]]
            _move(index_N, excess_K, rows, np.repeat(np.arange(costs.clusters), np.maximum(-excess_K, 0)))
            return


def _cheapest_with_room(
    costs: Costs, rows: np.ndarray, index_N: np.ndarray, excess_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each of the rows the cheapest cluster that has room, and what it costs beyond the row's own."""
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
    """How many of the same group have a lower value (or the same and came earlier), int64 [M]."""
    order_M = np.lexsort((value_M, group_M))
    sorted_M = group_M[order_M]
    position_M = np.arange(len(group_M))
    first_M = np.ones(len(group_M), dtype=bool)
    first_M[1:] = sorted_M[1:] != sorted_M[:-1]
    rank_M = np.empty(len(group_M), dtype=np.int64)
    rank_M[order_M] = position_M - np.maximum.accumulate(np.where(first_M, position_M, 0))
    return rank_M


class _Chains:
    """Moves along the cheapest chains: a row of a too large cluster to the next, one of that one to another, and so on
    to a cluster with room. Shortest paths in the graph of clusters, where going from a to b costs what the row of a
    that minds least pays for it. With prices as potentials no edge costs less than nothing.
    """

    def __init__(self, costs: Costs, index_N: np.ndarray, price_K: np.ndarray) -> None:
        self.costs, self.index_N, self.price_K = costs, index_N, price_K
        self.load_K = np.bincount(index_N, minlength=costs.clusters)
        self.size_K = even_sizes(self.load_K, price_K)
        self.edge_KK = np.full((costs.clusters, costs.clusters), np.inf, dtype=np.float32)  # [to, from]

    def move(self) -> np.ndarray:
        """Change index_N until no cluster is too large, no chain is found, or CHAIN_ROUNDS are over; returns prices at
        which the rows would have gone about where they are now by themselves.
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
        """Cost of the cheapest chain from any too large cluster to each, and the cluster before it (Bellman, Ford)."""
        weight_KK = self.edge_KK + potential_K[:, None]
        weight_KK -= potential_K
        np.maximum(weight_KK, 0, out=weight_KK)  # below zero by rounding, or by several chains moved at once
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
        """Chains, from a cluster with room back to a too large one, cheapest first, that share no cluster."""
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
