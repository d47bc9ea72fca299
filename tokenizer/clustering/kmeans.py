"""Lloyd's k-means that compares rows with moved centroids only and moves empty clusters onto badly served rows.

Some libraries fill an empty cluster with a near-copy of a full one. That leaves duplicates in the codebook, and items
collide. Here an empty cluster moves onto a row, drawn with probability proportional to the squared distance from its
centroid, so the new centroid is always the nearest of at least one row.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from tokenizer.clustering.nearest import NearestSearch, nearest_rows, row_chunks, squared_distances

REPAIR_ROUNDS = 20  # moving one cluster may empty another; in practice a few rounds suffice
SUM_ROWS = 1 << 14  # rows summed in float32 before they are added to the float64 sums
SPREAD_ROUNDS = 8  # initial rounds with prices
SPREAD_STEP = 0.05  # price increase per round of a cluster e times too large, as a share of the mean squared distance
SPREAD_ROWS = 32  # rows per cluster that these rounds use, at most

Initialisation = Literal["spread", "random", "k-means++"]


@dataclass(frozen=True)
class Clusters:
    """centroids_KD (float32); assignment_N (int64), the centroid of each fitted row; inertia: sum of squared distances."""

    centroids_KD: np.ndarray
    assignment_N: np.ndarray
    inertia: float


def lloyd(
    x_ND: np.ndarray,
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    initialisation: Initialisation = "spread",
    restarts: int = 1,
) -> Clusters:
    """Fit `clusters` centroids to the float32 rows of x_ND; the restart with the lowest inertia is returned.

    A run stops before `iterations` when no assignment changes. The same seed gives the same result on the same machine.
    With no more distinct rows than clusters, every row has a centroid of its own, and the other clusters repeat one of
    these. Memory beside x_ND: N indices and scores, K sums, and chunks of fixed size.
    """
    results = (
        _one_run(x_ND, clusters, iterations, np.random.default_rng((seed, restart)), initialisation)
        for restart in range(restarts)
    )
    return min(results, key=lambda result: result.inertia)


def start_centroids(
    x_ND: np.ndarray, clusters: int, generator: np.random.Generator, initialisation: Initialisation = "spread"
) -> np.ndarray:
    """Initial centroids [clusters,D].

    "random": random rows, all different if there are enough. "k-means++": rows far from each other (one pass over the data
    per cluster). "spread": random rows, then a few rounds in which large clusters have a price, see `_spread`.
    """
    if initialisation == "k-means++":
        return np.asarray(x_ND[_plus_plus_rows(x_ND, clusters, generator)])
    order_N = generator.permutation(len(x_ND))
    centroids_KD = np.asarray(x_ND[np.resize(order_N[:clusters], clusters)])
    if initialisation == "random" or len(x_ND) <= clusters:
        return centroids_KD
    if len(x_ND) > SPREAD_ROWS * clusters:
        x_ND = x_ND[np.sort(order_N[: SPREAD_ROWS * clusters])]
    return _spread(x_ND, centroids_KD)


class ClusterSums:
    """Sum and number of each cluster's rows, updated with the rows that change their cluster.

    Sums are float64, so that means stay exact over a million rows and many rounds of adding and subtracting.
    """

    def __init__(self, x_ND: np.ndarray, clusters: int) -> None:
        self.x_ND = x_ND
        self.sum_KD = np.zeros((clusters, x_ND.shape[1]))
        self.count_K = np.zeros(clusters, dtype=np.int64)

    def add(self, rows: np.ndarray, index_R: np.ndarray, sign: float = 1.0) -> None:
        """Add `rows` to the clusters index_R, or subtract them with sign=-1."""
        clusters = len(self.count_K)
        self.count_K += int(sign) * np.bincount(index_R, minlength=clusters)
        for part in row_chunks(len(rows), 1, max(SUM_ROWS, clusters)):
            index_P = index_R[part]
            signs_P, members = np.full(len(index_P), sign, np.float32), np.arange(len(index_P))
            one_hot = sparse.csr_matrix((signs_P, (index_P, members)), (clusters, len(index_P)))
            self.sum_KD += one_hot @ self.x_ND[rows[part]]

    def means(self, centroids_KD: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Centroids after those in `changed` moved to their means; a cluster without rows keeps its centroid."""
        changed = changed[self.count_K[changed] > 0]
        moved_KD = centroids_KD.copy()
        moved_KD[changed] = self.sum_KD[changed] / self.count_K[changed, None]
        return moved_KD


def _one_run(
    x_ND: np.ndarray, clusters: int, iterations: int, generator: np.random.Generator, initialisation: Initialisation
) -> Clusters:
    run = _Run(x_ND, start_centroids(x_ND, clusters, generator, initialisation), generator)
    for _ in range(iterations):
        if not run.round(to_means=True):
            break
    for _ in range(REPAIR_ROUNDS):
        if not run.round(to_means=False):
            break
    index_N = run.search.index_N
    distance_N = squared_distances(x_ND, run.centroids_KD, index_N)
    return Clusters(run.centroids_KD, index_N, float(distance_N.sum(dtype=np.float64)))


class _Run:
    """The state of one fit: centroids and the nearest centroid of each row."""

    def __init__(self, x_ND: np.ndarray, centroids_KD: np.ndarray, generator: np.random.Generator) -> None:
        self.x_ND, self.centroids_KD, self.generator = x_ND, centroids_KD, generator
        self.search = NearestSearch(x_ND, centroids_KD)
        self.sums = ClusterSums(x_ND, len(centroids_KD))
        self.sums.add(np.arange(len(x_ND)), self.search.index_N)
        self.changed = np.arange(len(centroids_KD))  # clusters whose rows have changed since their last mean

    def round(self, *, to_means: bool) -> bool:
        """Move centroids (to their means if `to_means`; empty ones onto rows) and reassign. False if none moved."""
        moved = self.changed if to_means else self.changed[:0]
        if to_means:
            self.centroids_KD = self.sums.means(self.centroids_KD, moved)
        index_N = self.search.index_N
        reseeded = _reseed_empty(self.x_ND, self.centroids_KD, index_N, self.sums.count_K, self.generator)
        moved = np.union1d(moved, reseeded)
        if not len(moved):
            return False
        before_N = index_N.copy()
        self.search.update(self.centroids_KD, moved)
        rows = np.flatnonzero(index_N != before_N)
        self.sums.add(rows, index_N[rows])
        self.sums.add(rows, before_N[rows], sign=-1.0)
        self.changed = np.union1d(index_N[rows], before_N[rows])
        return True


def _spread(x_ND: np.ndarray, centroids_KD: np.ndarray) -> np.ndarray:
    """Centroids after a few rounds in which clusters above average size cost more and smaller ones cost less.

    From random rows in many dimensions, Lloyd's rounds often end with many clusters of a single row and one cluster near
    the mean of the data that takes all rows unlike any other: its short centroid is nearest to every row that fits nowhere.
    Prices keep this cluster small until the others have become means of several rows.
    """
    clusters = len(centroids_KD)
    price_K, step, every_N = np.zeros(clusters, dtype=np.float32), 0.0, np.arange(len(x_ND))
    for round_number in range(SPREAD_ROUNDS):
        index_N = nearest_rows(x_ND, centroids_KD, price_K)
        sums = ClusterSums(x_ND, clusters)
        sums.add(every_N, index_N)
        centroids_KD = sums.means(centroids_KD, np.arange(clusters))
        if round_number == 0:
            step = SPREAD_STEP * float(squared_distances(x_ND, centroids_KD, index_N).mean())
        price_K += np.float32(step) * np.log((sums.count_K + 1) / (len(x_ND) / clusters + 1)).astype(np.float32)
    return centroids_KD


def _plus_plus_rows(x_ND: np.ndarray, clusters: int, generator: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007): each row is drawn by its squared distance to the rows drawn before."""
    rows = [int(generator.integers(len(x_ND)))]
    distance_N = np.full(len(x_ND), np.inf, dtype=np.float32)
    while len(rows) < clusters:
        newest_1D = x_ND[rows[-1:]]
        zeros_N = np.broadcast_to(np.int64(0), len(x_ND))
        distance_N = np.minimum(distance_N, squared_distances(x_ND, newest_1D, zeros_N))
        drawn = _draw_by_weight(distance_N, 1, generator)
        rows.append(int(drawn[0]) if len(drawn) else rows[0])
    return np.asarray(rows)


def _reseed_empty(
    x_ND: np.ndarray, centroids_KD: np.ndarray, index_N: np.ndarray, count_K: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Move empty clusters, in place, onto rows away from their centroid. Return the clusters that moved."""
    empty = np.flatnonzero(count_K == 0)
    if not len(empty):
        return empty
    rows = _draw_by_weight(squared_distances(x_ND, centroids_KD, index_N), len(empty), generator)
    centroids_KD[empty[: len(rows)]] = x_ND[rows]
    return empty[: len(rows)]


def _draw_by_weight(weight_N: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Up to `count` different rows with positive weight, drawn without replacement (Efraimidis and Spirakis keys)."""
    # below this share of the largest, a "distance" is the rounding error of a row on its centroid
    usable = np.flatnonzero(weight_N > weight_N.max() * 1e-10)
    keys = generator.standard_exponential(len(usable)) / weight_N[usable]
    return np.asarray(usable[np.argsort(keys, kind="stable")[:count]])
