"""Hierarchical k-means: rows are split repeatedly, each time into few parts.

A single k-means with thousands of clusters compares every row with every centroid. Here n rows are split into about the
cube root of n parts, and large parts are split again. Small parts are then split into their share of the clusters.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from tokenizer.clustering.kmeans import ClusterSums, lloyd
from tokenizer.clustering.nearest import squared_distances

ROUNDS = 10  # iterations of k-means in one split, at most
SMALL = 4096  # a part of at most this many rows is split into its share of the clusters


@dataclass(frozen=True)
class Hierarchy:
    """The leaves: cluster_N int64, the cluster of each row; representatives_K int64, each cluster's row nearest to its mean."""

    cluster_N: np.ndarray
    representatives_K: np.ndarray


def hierarchical_kmeans(x_ND: np.ndarray, clusters: int, *, seed: int = 0) -> Hierarchy:
    """Cluster rows into `clusters` leaves, or fewer if there are fewer distinct rows.

    In the OneRec Technical Report (arXiv 2506.13695, lifelong pathway) each step makes floor(n^(1/3)) clusters of n rows, down
    to clusters of M rows. The report does not give M and does not say how it controls the number of leaves. Here parts of at
    most 4,096 rows are the last to be split, into a number of leaves proportional to their rows. x_ND: float32, at least one
    row. The same seed gives the same clusters on the same machine.
    """
    leaves: list[np.ndarray] = []
    parts = _parts(x_ND, clusters, seed)
    for rows, share in zip(parts, _shares(np.array([len(rows) for rows in parts]), clusters), strict=True):
        leaves += _split(x_ND, rows, int(share), seed)
    cluster_N = np.empty(len(x_ND), dtype=np.int64)
    for leaf, rows in enumerate(leaves):
        cluster_N[rows] = leaf
    return Hierarchy(cluster_N, _nearest_to_means(x_ND, cluster_N, len(leaves)))


def _parts(x_ND: np.ndarray, clusters: int, seed: int) -> list[np.ndarray]:
    """Split the largest part repeatedly, until all parts are small or cannot be split, or there are `clusters` of them."""
    done: list[np.ndarray] = []
    queue = [(-len(x_ND), 0, np.arange(len(x_ND)))]
    made = 1  # number of the next part: among parts of equal size, the oldest is split first
    while queue:
        size, _, rows = heapq.heappop(queue)
        room = clusters - len(done) - len(queue)
        found = _split(x_ND, rows, min(int(np.cbrt(-size)), room), seed) if -size > SMALL else [rows]
        if len(found) == 1:
            done.append(rows)
            continue
        for part in found:
            heapq.heappush(queue, (-len(part), made, part))
            made += 1
    return done


def _split(x_ND: np.ndarray, rows: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Split `rows` into this many parts by k-means, or into fewer if rows are equal."""
    if parts < 2:
        return [rows]
    if parts == len(rows):
        return list(rows[:, None])
    assignment = lloyd(x_ND[rows], parts, iterations=ROUNDS, seed=seed).assignment_N
    order, sizes = np.argsort(assignment, kind="stable"), np.bincount(assignment)
    return np.split(rows[order], np.cumsum(sizes[sizes > 0])[:-1])


def _shares(sizes_P: np.ndarray, clusters: int) -> np.ndarray:
    """Leaves of each part, proportional to its rows, at least one and at most one per row; largest remainders round up."""
    clusters = min(clusters, int(sizes_P.sum()))
    free = clusters - len(sizes_P)
    more_P = free * (sizes_P - 1) / max(1, int((sizes_P - 1).sum()))
    shares_P = 1 + np.floor(more_P).astype(np.int64)
    most_left = np.argsort(shares_P - 1 - more_P, kind="stable")[: clusters - int(shares_P.sum())]
    shares_P[most_left] += 1
    return shares_P


def _nearest_to_means(x_ND: np.ndarray, cluster_N: np.ndarray, clusters: int) -> np.ndarray:
    """The row of each cluster that is nearest to its mean; the first among equals."""
    sums, every_K = ClusterSums(x_ND, clusters), np.arange(clusters)
    sums.add(np.arange(len(x_ND)), cluster_N)
    means_KD = sums.means(np.zeros((clusters, x_ND.shape[1]), np.float32), every_K)
    order_N = np.lexsort((squared_distances(x_ND, means_KD, cluster_N), cluster_N))
    nearest_K: np.ndarray = order_N[np.searchsorted(cluster_N[order_N], every_K)]
    return nearest_K
