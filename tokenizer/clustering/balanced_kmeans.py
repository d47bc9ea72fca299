"""k-means with clusters of equal size: rounds of balanced assignment and means. Prices are kept between rounds."""

from dataclasses import dataclass

import numpy as np

from tokenizer.clustering.balanced_assignment import Costs, Prices, balanced_assignment
from tokenizer.clustering.kmeans import ClusterSums
from tokenizer.clustering.nearest import squared_distances


@dataclass(frozen=True)
class BalancedClusters:
    """centroids_KD and price_K float32; assignment_N int64, with sizes that differ by at most one; inertia of that assignment."""

    centroids_KD: np.ndarray
    price_K: np.ndarray
    assignment_N: np.ndarray
    inertia: float


def balanced_kmeans(
    x_ND: np.ndarray,
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    start_KD: np.ndarray | None = None,
    polish: bool = True,
    memory_mib: int = 256,
) -> BalancedClusters:
    """Fit `clusters` centroids to the rows of x_ND, with cluster sizes that differ by at most one row.

    Unlike Algorithm 1 of OneRec (arXiv 2502.18965), each round assigns all rows at once, see
    `tokenizer.clustering.balanced_assignment`. The fit stops before `iterations` when no assignment changes. start_KD: initial
    centroids (None: random rows by `seed`). Each round uses one round of prices and direct moves. polish: after the last
    round, assign with many rounds of prices and the cheapest chains of moves, compute the means, and assign once more in the
    same way, so that the prices fit the centroids.
    """
    generator = np.random.default_rng(seed)
    if start_KD is None:
        start_KD = x_ND[np.resize(generator.permutation(len(x_ND))[:clusters], clusters)]
    centroids_KD = np.array(start_KD, dtype=np.float32)
    prices = Prices(np.zeros(clusters))
    index_N, changed = np.full(len(x_ND), -1), True
    for _ in range(iterations):
        costs = Costs(x_ND.__getitem__, len(x_ND), centroids_KD, memory_mib)
        found = balanced_assignment(costs, prices, price_rounds=1, chains=False)
        changed = not np.array_equal(found.index_N, index_N)
        index_N = found.index_N
        if not changed:
            break
        centroids_KD = _means(x_ND, index_N, centroids_KD)
    price_K = prices.price_K
    for last in (False, True) if polish else ():
        costs = Costs(x_ND.__getitem__, len(x_ND), centroids_KD, memory_mib)
        found = balanced_assignment(costs, Prices(price_K))
        index_N, price_K = found.index_N, found.price_K
        if not last:  # the last assignment keeps the centroids, so that the returned prices fit them
            centroids_KD = _means(x_ND, index_N, centroids_KD)
    inertia = float(squared_distances(x_ND, centroids_KD, index_N).sum(dtype=np.float64))
    return BalancedClusters(centroids_KD, price_K, index_N, inertia)


def _means(x_ND: np.ndarray, index_N: np.ndarray, centroids_KD: np.ndarray) -> np.ndarray:
    sums = ClusterSums(x_ND, len(centroids_KD))
    sums.add(np.arange(len(x_ND)), index_N)
    return sums.means(centroids_KD, np.arange(len(centroids_KD)))
