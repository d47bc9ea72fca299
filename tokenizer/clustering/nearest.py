"""Exact nearest centroids of many rows, by matrix products over chunks of rows that fit the processor's cache.

`nearest_rows` computes them once. `NearestSearch` keeps them up to date while k-means moves centroids. It compares rows
with moved centroids only; late in a fit, nearly all centroids stay where they are.
"""

import numpy as np

CHUNK_ELEMENTS = 1 << 21  # scores held at once (rows x centroids); 8 MiB of float32
FULL_ABOVE = 0.7  # share of moved centroids above which comparing with all of them is as fast


def nearest_rows(x_ND: np.ndarray, centroids_KD: np.ndarray, price_K: np.ndarray | None = None) -> np.ndarray:
    """Nearest centroid of each row, int64 [N], by squared distance plus the centroid's price, if given.

    Memory is bounded by CHUNK_ELEMENTS scores, whatever N and K are. Ties go to the lower index.
    """
    scores = Scores(centroids_KD, price_K)
    index_N = np.empty(len(x_ND), dtype=np.int64)
    for rows in row_chunks(len(x_ND), len(centroids_KD)):
        index_N[rows] = scores.of(x_ND[rows]).argmin(1)
    return index_N


def squared_distances(x_ND: np.ndarray, centroids_KD: np.ndarray, index_N: np.ndarray) -> np.ndarray:
    """Squared distance of each row to the centroid with the number index_N, float32 [N].

    This uses differences, because the expanded form in `Scores` loses digits for rows close to their centroid.
    """
    distance_N = np.empty(len(x_ND), dtype=np.float32)
    for rows in row_chunks(*x_ND.shape):
        difference_RD = x_ND[rows] - centroids_KD[index_N[rows]]
        distance_N[rows] = np.einsum("rd,rd->r", difference_RD, difference_RD)
    return distance_N


class Scores:
    """Squared distances of rows to centroids minus the squared length of the row, which is the same for all centroids.

    price_K, if given, is added.
    """

    def __init__(self, centroids_KD: np.ndarray, price_K: np.ndarray | None = None) -> None:
        self.doubled_DK = (-2.0 * centroids_KD).T
        squared_K = np.einsum("kd,kd->k", centroids_KD, centroids_KD)
        self.constant_K = squared_K if price_K is None else np.asarray(squared_K + price_K, dtype=np.float32)

    def of(self, x_RD: np.ndarray) -> np.ndarray:
        """Scores float32 [R,K]."""
        score_RK = x_RD @ self.doubled_DK
        score_RK += self.constant_K
        return np.asarray(score_RK)


def row_chunks(rows: int, width: int, elements: int | None = None) -> list[slice]:
    """Ranges of rows, each with at most CHUNK_ELEMENTS (or `elements`) values at `width` values per row."""
    step = max(1, (elements or CHUNK_ELEMENTS) // max(1, width))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class NearestSearch:
    """Nearest centroid of every row, updated while centroids move.

    index_N: int64, the nearest centroid. score_N: squared distance to it minus the row's squared length. other_N: lower bound
    of that score for every other centroid. After some centroids moved, a centroid at rest can win a row only if the row's
    own centroid moved beyond that bound. Such rows are compared with all centroids, the others with the moved ones only.
    The result equals a full comparison, up to rounding.
    """

    def __init__(self, x_ND: np.ndarray, centroids_KD: np.ndarray) -> None:
        self.x_ND = x_ND
        self.index_N = np.zeros(len(x_ND), dtype=np.int64)
        self.score_N = np.zeros(len(x_ND), dtype=np.float32)
        self.other_N = np.zeros(len(x_ND), dtype=np.float32)
        scores = Scores(centroids_KD)
        for rows in row_chunks(len(x_ND), len(centroids_KD)):
            self._compare_all(rows, scores)

    def update(self, centroids_KD: np.ndarray, moved: np.ndarray) -> None:
        """Update for new centroids; only those listed in `moved` (sorted indices) differ from the previous ones."""
        if not len(moved):
            return
        scores = Scores(centroids_KD)
        if len(moved) > FULL_ABOVE * len(centroids_KD):
            for rows in row_chunks(len(self.x_ND), len(centroids_KD)):
                self._compare_all(rows, scores)
            return
        position_K = np.full(len(centroids_KD), -1)
        position_K[moved] = np.arange(len(moved))
        scores_of_moved = Scores(centroids_KD[moved])
        for rows in row_chunks(len(self.x_ND), len(moved)):
            doubtful = rows.start + self._compare_moved(rows, moved, scores_of_moved, position_K)
            for part in row_chunks(len(doubtful), len(centroids_KD)):
                self._compare_all(doubtful[part], scores)

    def _compare_all(self, rows: slice | np.ndarray, scores: Scores) -> None:
        score_RK = scores.of(self.x_ND[rows])
        index_R = score_RK.argmin(1)
        every_R = np.arange(len(index_R))
        self.index_N[rows] = index_R
        self.score_N[rows] = score_RK[every_R, index_R]
        score_RK[every_R, index_R] = np.inf
        self.other_N[rows] = score_RK.min(1)

    def _compare_moved(
        self, rows: slice, moved: np.ndarray, scores_of_moved: Scores, position_K: np.ndarray
    ) -> np.ndarray:
        """Compare rows with moved centroids only. Return the rows, relative to the first, that need a full comparison."""
        index_R, before_R, other_R = self.index_N[rows], self.score_N[rows], self.other_N[rows]
        score_RM = scores_of_moved.of(self.x_ND[rows])
        every_R = np.arange(len(index_R))
        own_R = position_K[index_R]
        own_moved_R = own_R >= 0
        own_score_R = np.where(own_moved_R, score_RM[every_R, own_R], before_R)
        best_R = score_RM.argmin(1)
        best_score_R = score_RM[every_R, best_R]
        won_R = best_score_R < own_score_R  # the row goes to another centroid
        score_RM[every_R[won_R], best_R[won_R]] = np.inf
        keeps_R = own_moved_R & ~won_R
        score_RM[every_R[keeps_R], own_R[keeps_R]] = np.inf
        left_behind_R = np.where(won_R & ~own_moved_R, before_R, np.inf)
        new_score_R = np.where(won_R, best_score_R, own_score_R)
        # centroids at rest are no nearer than the own centroid was, and no nearer than the bound on all others
        doubtful_R = own_moved_R & (new_score_R > np.maximum(before_R, other_R))
        self.other_N[rows] = np.minimum(np.minimum(other_R, left_behind_R), score_RM.min(1))
        self.index_N[rows] = np.where(won_R, moved[best_R], index_R)
        self.score_N[rows] = new_score_R
        return np.flatnonzero(doubtful_R)
