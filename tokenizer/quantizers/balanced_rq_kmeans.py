"""Balanced RQ-KMeans (OneRec, V1): on every level, the numbers of items per code differ by at most one."""

from typing import Self

import numpy as np

from tokenizer.clustering.balanced_assignment import Costs, Prices, balanced_assignment
from tokenizer.clustering.balanced_kmeans import balanced_kmeans
from tokenizer.clustering.nearest import nearest_rows
from tokenizer.common.checks import check_vectors
from tokenizer.quantizers import by_level
from tokenizer.quantizers.residual import sum_of_rows
from tokenizer.quantizers.residual_kmeans import ResidualKMeans, sample_rows, scaled_parts, subtract_rows
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import BalancedRQKMeansSpec


class BalancedRQKMeans(ResidualKMeans):
    """Residual quantizer whose k-means clusters on every level have sizes that differ by at most one.

    This is OneRec V1 (arXiv 2502.18965, Algorithm 1) with another assignment: all rows at once at one price per code, and not
    cluster by cluster, which leaves only unwanted rows to the last clusters; see `tokenizer.clustering.balanced_assignment`.
    Vectors are shifted and scaled as in `tokenizer.quantizers.rq_kmeans`.

    `encode` spreads its rows evenly, so a row's codes depend on the other rows. Equal rows get different codes where a code
    has no room for all of them. `encode_new` is for items that join later: each row independently takes the code with the
    least squared distance plus fitted price, which spreads items similar to the fitted ones about evenly.

    iterations: rounds of assignment and means per level, at most. fit_rows: size of a random sample to fit on (None: all
    rows). Beside memory_mib it needs a few numbers per item.
    """

    title = "balanced RQ-KMeans"
    settings_class = BalancedRQKMeansSpec
    settings: BalancedRQKMeansSpec
    _prices: list[np.ndarray]

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn mean, scale, codebooks and prices from [N,D] vectors; TokenizerError for NaN, infinity, or no rows."""
        x_ND = sample_rows(check_vectors(x_ND), self.settings.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        residual_ND = self._scaling.apply(x_ND)
        self._codebooks, self._prices = [], []
        for level, size in enumerate(self.level_sizes):
            seed, rounds = self.seed + level, self.settings.iterations
            found = balanced_kmeans(residual_ND, size, iterations=rounds, seed=seed, memory_mib=self.memory_mib)
            subtract_rows(residual_ND, found.centroids_KD, found.assignment_N)
            self._codebooks.append(found.centroids_KD)
            self._prices.append(found.price_K)
        return self

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]; each code of a level gets N/V of these rows, rounded up or down."""
        x_ND = self._checked(x_ND)
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for level, (codebook_VD, price_V) in enumerate(zip(self._codebooks, self._prices, strict=True)):

            def residual_rows(rows: slice | np.ndarray, level: int = level) -> np.ndarray:
                scaled_RD = self._scaling.apply(x_ND[rows])
                if level:
                    scaled_RD -= sum_of_rows(codes_NL[rows, :level], self._codebooks[:level])
                return scaled_RD

            costs = Costs(residual_rows, len(x_ND), codebook_VD, self.memory_mib)
            codes_NL[:, level] = balanced_assignment(costs, Prices(price_V)).index_N
        return codes_NL

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D], each row independently: least squared distance plus fitted price of the code."""
        x_ND = self._checked(x_ND)
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for part, residual_RD in scaled_parts(x_ND, self._scaling, self.memory_mib):
            for level, (codebook_VD, price_V) in enumerate(zip(self._codebooks, self._prices, strict=True)):
                codes_NL[part, level] = nearest_rows(residual_RD, codebook_VD, price_V)
                subtract_rows(residual_RD, codebook_VD, codes_NL[part, level])
        return codes_NL

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, codebooks and prices as named arrays."""
        return super().state_dict() | by_level("price", self._prices)

    def _make_room(self, width: int) -> None:
        super()._make_room(width)
        self._prices = [np.zeros(size, dtype=np.float32) for size in self.level_sizes]
