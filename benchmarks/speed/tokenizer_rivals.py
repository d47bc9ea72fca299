"""Residual k-means by this package, faiss and scikit-learn behind one interface, for `benchmarks.tokenizer`."""

from typing import Any, Protocol

import numpy as np


class Rival(Protocol):
    """Something that learns residual codebooks and turns rows into codes."""

    def fit(self, x_ND: np.ndarray, seed: int) -> None:
        """Learn codebooks."""

    def encode(self, x_ND: np.ndarray) -> None:
        """Find codes and keep them; `error` decodes them later, which is not timed."""

    def error(self, x_ND: np.ndarray) -> float:
        """Share of the variance of the encoded rows that their codes lose."""


class Ours:
    """`tokenizer.quantizers.rq_kmeans.RQKMeans`."""

    def __init__(self, level_sizes: list[int], rounds: int, beam_width: int = 1) -> None:
        self.level_sizes, self.rounds, self.beam_width = level_sizes, rounds, beam_width

    def fit(self, x_ND: np.ndarray, seed: int) -> None:
        from tokenizer.quantizers.rq_kmeans import RQKMeans

        quantizer = RQKMeans(self.level_sizes, iterations=self.rounds, beam_width=self.beam_width, seed=seed)
        self.quantizer = quantizer.fit(x_ND)

    def encode(self, x_ND: np.ndarray) -> None:
        self.codes_NL = self.quantizer.encode(x_ND)

    def error(self, x_ND: np.ndarray) -> float:
        return variance_lost(x_ND, self.quantizer.decode(self.codes_NL))


class FaissKmeans:
    """`faiss.Kmeans` on the vectors, on what is left over, and so on; encoded by the flat index it trains."""

    def __init__(self, level_sizes: list[int], rounds: int) -> None:
        self.level_sizes, self.rounds = level_sizes, rounds

    def fit(self, x_ND: np.ndarray, seed: int) -> None:
        import faiss

        residual_ND = x_ND.copy()
        self.levels: list[Any] = []
        for level, size in enumerate(self.level_sizes):
            # 2^30 points: it uses all rows that it is given, as the others do
            found: Any = faiss.Kmeans(
                x_ND.shape[1], size, niter=self.rounds, seed=seed * 100 + level + 1, max_points_per_centroid=1 << 30
            )
            found.train(residual_ND)
            self.levels.append(found)
            if level + 1 < len(self.level_sizes):
                residual_ND -= found.centroids[found.index.search(residual_ND, 1)[1][:, 0]]

    def encode(self, x_ND: np.ndarray) -> None:
        residual_ND = x_ND.copy()
        codes = []
        for found in self.levels:
            codes.append(found.index.search(residual_ND, 1)[1][:, 0])
            residual_ND -= found.centroids[codes[-1]]
        self.residual_ND = residual_ND

    def error(self, x_ND: np.ndarray) -> float:
        return variance_lost(x_ND, x_ND - self.residual_ND)


class FaissResidualQuantizer:
    """`faiss.ResidualQuantizer` with its defaults: beam search of width 5 while fitting and encoding."""

    def __init__(self, level_sizes: list[int]) -> None:
        self.level_sizes = level_sizes

    def fit(self, x_ND: np.ndarray, seed: int) -> None:
        import faiss

        bits = [int(size).bit_length() - 1 for size in self.level_sizes]
        self.quantizer = faiss.ResidualQuantizer(x_ND.shape[1], len(bits), bits[0])
        self.quantizer.cp.seed = seed + 1
        self.quantizer.train(x_ND)

    def encode(self, x_ND: np.ndarray) -> None:
        self.codes = self.quantizer.compute_codes(x_ND)

    def error(self, x_ND: np.ndarray) -> float:
        return variance_lost(x_ND, self.quantizer.decode(self.codes))


class ScikitLearn:
    """`sklearn.cluster.KMeans` (Lloyd, random start, one run) on the vectors, on what is left over, and so on."""

    def __init__(self, level_sizes: list[int], rounds: int) -> None:
        self.level_sizes, self.rounds = level_sizes, rounds

    def fit(self, x_ND: np.ndarray, seed: int) -> None:
        from sklearn.cluster import KMeans

        residual_ND, self.levels = x_ND.copy(), []
        for level, size in enumerate(self.level_sizes):
            found = KMeans(size, init="random", n_init=1, max_iter=self.rounds, random_state=seed * 100 + level)
            found.fit(residual_ND)
            residual_ND -= found.cluster_centers_[found.labels_]
            self.levels.append(found)

    def encode(self, x_ND: np.ndarray) -> None:
        residual_ND = x_ND.copy()
        for found in self.levels:
            residual_ND -= found.cluster_centers_[found.predict(residual_ND)]
        self.residual_ND = residual_ND

    def error(self, x_ND: np.ndarray) -> float:
        return variance_lost(x_ND, x_ND - self.residual_ND)


def balanced_ours(x_ND: np.ndarray, start_KD: np.ndarray, rounds: int, found: list[np.ndarray]) -> None:
    """Append to `found` the cluster of each row by this package's balanced k-means, without its final polish."""
    from tokenizer.clustering.balanced_kmeans import balanced_kmeans

    result = balanced_kmeans(x_ND, len(start_KD), iterations=rounds, start_KD=start_KD, polish=False)
    found.append(result.assignment_N)


def balanced_theirs(x_ND: np.ndarray, start_KD: np.ndarray, rounds: int, found: list[np.ndarray]) -> None:
    """Append to `found` the cluster of each row by `k-means-constrained`."""
    from k_means_constrained import KMeansConstrained

    rows, clusters = len(x_ND), len(start_KD)
    model: Any = KMeansConstrained(
        n_clusters=clusters,
        size_min=rows // clusters,
        size_max=-(-rows // clusters),
        init=start_KD.astype(np.float64),
        n_init=1,
        max_iter=rounds,
        random_state=0,
    )
    found.append(np.asarray(model.fit_predict(x_ND)))


def variance_lost(x_ND: np.ndarray, decoded_ND: np.ndarray) -> float:
    """Sum of squared errors over that of the mean, added up by parts in float64."""
    mean_D = x_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    lost = total = 0.0
    for start in range(0, len(x_ND), 1 << 14):
        rows = slice(start, start + (1 << 14))
        lost += float(np.square(x_ND[rows] - decoded_ND[rows]).sum(dtype=np.float64))
        total += float(np.square(x_ND[rows] - mean_D).sum(dtype=np.float64))
    return lost / total


def inertia_of(x_ND: np.ndarray, index_N: np.ndarray) -> float:
    """Sum of squared distances of rows to the mean of their cluster."""
    return float(sum(np.square(x_ND[index_N == k] - x_ND[index_N == k].mean(0)).sum() for k in np.unique(index_N)))
