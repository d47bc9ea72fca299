"""Lloyd's k-means: only centroids that move are looked at again, empty clusters re-seeded from badly served points.

Libraries that split an empty cluster into two near-copies of a full one leave duplicates in the codebook, and items
collide. Here an empty cluster jumps onto a point, drawn with probability proportional to its squared distance from its
own centroid, so the new centroid always serves somebody.

The arithmetic is NumPy's on the processor. `kmeans` and `nearest_centroids` take and return torch tensors, for callers
that train networks; `lloyd` is the same on arrays.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from tokenizer.clustering.nearest import NearestSearch, nearest_rows, row_chunks, squared_distances

if TYPE_CHECKING:
    from torch import Tensor

REPAIR_ROUNDS = 20  # re-seeding one cluster may empty another; this few rounds settle it in practice
SUM_ROWS = 1 << 14  # rows added up in float32 before they join the float64 sums
SPREAD_ROUNDS = 8  # rounds with prices at the start
SPREAD_STEP = 0.05  # of the mean squared distance: price of a cluster that is e times too large, per round
SPREAD_ROWS = 32  # rows per cluster that those rounds look at, at most

Initialisation = Literal["spread", "random", "k-means++"]


@dataclass(frozen=True)
class KMeansResult:
    """centroids_KD; assignment_N (int64) of the fitted rows to them; inertia: sum of squared distances."""

    centroids_KD: "Tensor"
    assignment_N: "Tensor"
    inertia: float


@dataclass(frozen=True)
class Clusters:
    """KMeansResult in arrays. iterations: rounds it took."""

    centroids_KD: np.ndarray
    assignment_N: np.ndarray
    inertia: float
    iterations: int


def nearest_centroids(x_ND: "Tensor", centroids_KD: "Tensor") -> "tuple[Tensor, Tensor]":
    """Nearest centroid of each row, int64 [N], and the squared Euclidean distance to it, float [N].

    Memory is bounded by `nearest.CHUNK_ELEMENTS` distances, whatever N and K are. Ties go to the lower index.
    """
    import torch

    x, centroids = _array(x_ND), _array(centroids_KD)
    index_N = nearest_rows(x, centroids)
    distance_N = squared_distances(x, centroids, index_N)
    return torch.from_numpy(index_N).to(x_ND.device), torch.from_numpy(distance_N).to(x_ND.device)


def kmeans(
    x_ND: "Tensor",
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    initialisation: Initialisation = "spread",
    restarts: int = 1,
) -> KMeansResult:
    """`lloyd` for tensors; the work is done on the processor and the result returned to the device of x_ND."""
    import torch

    result = lloyd(
        _array(x_ND), clusters, iterations=iterations, seed=seed, initialisation=initialisation, restarts=restarts
    )
    centroids_KD = torch.from_numpy(result.centroids_KD).to(x_ND.device)
    return KMeansResult(centroids_KD, torch.from_numpy(result.assignment_N).to(x_ND.device), result.inertia)


def lloyd(
    x_ND: np.ndarray,
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    initialisation: Initialisation = "spread",
    restarts: int = 1,
) -> Clusters:
    """Fit `clusters` centroids to the rows of x_ND; of several restarts the one with the lowest inertia is returned.

    Stops before `iterations` when no assignment changes. The same seed gives the same result on the same machine. With
    no more distinct rows than clusters every row ends on a centroid and the clusters left over repeat one of them.
    Memory beside x_ND: N indices and scores, K sums, and chunks of fixed size.
    """
    results = (
        _one_run(x_ND, clusters, iterations, np.random.default_rng((seed, restart)), initialisation)
        for restart in range(max(1, restarts))
    )
    return min(results, key=lambda result: result.inertia)


def start_centroids(
    x_ND: np.ndarray, clusters: int, generator: np.random.Generator, initialisation: Initialisation = "spread"
) -> np.ndarray:
    """Centroids [clusters,D] that Lloyd's rounds start from.

    "random": rows, different ones while there are enough. "k-means++": rows far from each other (one pass over the data
    per cluster). "spread": random rows, then a few rounds in which large clusters carry a price, see `_spread`.
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
    """Sum and number of each cluster's rows, kept up to date from the rows that change their cluster.

    Sums are float64: neither a million rows nor many rounds of adding and taking away blur a mean.
    """

    def __init__(self, x_ND: np.ndarray, clusters: int) -> None:
        self.x_ND = x_ND
        self.sum_KD = np.zeros((clusters, x_ND.shape[1]))
        self.count_K = np.zeros(clusters, dtype=np.int64)

    def add(self, rows: np.ndarray, index_R: np.ndarray, sign: float = 1.0) -> None:
        """Add `rows` to clusters index_R, or take them away."""
        clusters = len(self.count_K)
        self.count_K += int(sign) * np.bincount(index_R, minlength=clusters)
        for start, stop in row_chunks(len(rows), 1, max(SUM_ROWS, clusters)):
            members = np.arange(stop - start)
            shape = (clusters, stop - start)
            one_hot = sparse.csr_matrix(
                (np.full(stop - start, sign, np.float32), (index_R[start:stop], members)), shape
            )
            self.sum_KD += one_hot @ self.x_ND[rows[start:stop]]

    def means(self, centroids_KD: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """The centroids with those in `changed` moved to their mean; a cluster without rows keeps its centroid."""
        changed = changed[self.count_K[changed] > 0]
        moved_KD = centroids_KD.copy()
        moved_KD[changed] = self.sum_KD[changed] / self.count_K[changed, None]
        return moved_KD


def _one_run(
    x_ND: np.ndarray, clusters: int, iterations: int, generator: np.random.Generator, initialisation: Initialisation
) -> Clusters:
    run = _Run(x_ND, start_centroids(x_ND, clusters, generator, initialisation), generator)
    done = 0
    while done < iterations and run.round(to_means=True):
        done += 1
    for _ in range(REPAIR_ROUNDS):
        if not run.round(to_means=False):
            break
    index_N = run.search.index_N
    distance_N = squared_distances(x_ND, run.centroids_KD, index_N)
    return Clusters(run.centroids_KD, index_N, float(distance_N.sum(dtype=np.float64)), done)


class _Run:
    """Centroids, and which rows are nearest to each, from round to round."""

    def __init__(self, x_ND: np.ndarray, centroids_KD: np.ndarray, generator: np.random.Generator) -> None:
        self.x_ND, self.centroids_KD, self.generator = x_ND, centroids_KD, generator
        self.search = NearestSearch(x_ND, centroids_KD)
        self.sums = ClusterSums(x_ND, len(centroids_KD))
        self.sums.add(np.arange(len(x_ND)), self.search.index_N)
        self.changed = np.arange(len(centroids_KD))  # clusters whose rows are no longer those of the last mean

    def round(self, *, to_means: bool) -> bool:
        """Move centroids (all to their mean if `to_means`; empty ones onto rows), assign. False if none had to move."""
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
    """Centroids after a few rounds in which a cluster pays for being larger than the mean, and gains for being smaller.

    From random rows in many dimensions Lloyd's rounds often end with one cluster near the mean of the data that has
    swallowed everything unlike the rest, and with clusters of a single row: its short centroid is closest to all that
    no other fits. Prices keep it from growing until the others have become means of something.
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
    """k-means++ (Arthur and Vassilvitskii 2007): each next start is drawn by squared distance to the ones before."""
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
    """Move empty clusters, in place, onto rows that lie off their centroid. Returns which were moved."""
    empty = np.flatnonzero(count_K == 0)
    if not len(empty):
        return empty
    rows = _draw_by_weight(squared_distances(x_ND, centroids_KD, index_N), len(empty), generator)
    centroids_KD[empty[: len(rows)]] = x_ND[rows]
    return empty[: len(rows)]


def _draw_by_weight(weight_N: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Up to `count` different rows with positive weight, drawn without replacement (Efraimidis and Spirakis keys)."""
    # below this share of the largest, a "distance" is rounding of a row that sits on its centroid
    usable = np.flatnonzero(weight_N > weight_N.max() * 1e-10)
    keys = generator.standard_exponential(len(usable)) / weight_N[usable]
    return np.asarray(usable[np.argsort(keys, kind="stable")[:count]])


def _array(x: "Tensor") -> np.ndarray:
    return np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)
