"""Balanced RQ-KMeans (OneRec, V1): on every level, the numbers of items per code differ by at most one."""

from typing import Any, Self

import numpy as np

from tokenizer.clustering.balanced_assignment import Costs, Prices, balanced_assignment
from tokenizer.clustering.balanced_kmeans import balanced_kmeans
from tokenizer.clustering.nearest import nearest_rows
from tokenizer.common.checks import check_arrays, check_vectors
from tokenizer.quantizers.residual import sum_of_rows
from tokenizer.quantizers.residual_kmeans import ResidualKMeans, sample_rows, scaled_parts, subtract_rows
from tokenizer.quantizers.scaling import Scaling


class BalancedRQKMeans(ResidualKMeans):
    """Residual quantizer whose k-means clusters on every level have sizes that differ by at most one.

    This is OneRec V1 (arXiv 2502.18965, Algorithm 1) with another assignment: all rows at once at one price per code, and not
    cluster by cluster, which leaves only unwanted rows to the last clusters; see `tokenizer.clustering.balanced_assignment`.
    Vectors are shifted and scaled as in `tokenizer.quantizers.rq_kmeans`.

    `encode` spreads its rows evenly, so a row's codes depend on the other rows. Equal rows get different codes where a code
    has no room for all of them. `encode_new` is for items that join later: each row independently takes the code with the
    least squared distance plus fitted price, which spreads items similar to the fitted ones about evenly.

    level_sizes: codes per level, may differ. iterations: rounds of assignment and means per level, at most. fit_rows: size of
    a random sample to fit on (None: all rows). memory_mib: bound of the scratch memory, beside the vectors, the result, a few
    numbers per item and, while fitting, one copy of the fitted rows.
    """

    title = "balanced RQ-KMeans"

    def __init__(
        self,
        level_sizes: list[int],
        *,
        iterations: int = 25,
        seed: int = 0,
        fit_rows: int | None = None,
        memory_mib: int = 256,
    ) -> None:
        super().__init__(level_sizes, seed=seed, memory_mib=memory_mib)
        self.iterations = iterations
        self.fit_rows = fit_rows
        self._prices: list[np.ndarray] = []

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn mean, scale, codebooks and prices from [N,D] vectors; TokenizerError for NaN, infinity, or no rows."""
        x_ND = sample_rows(check_vectors(x_ND), self.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        residual_ND = self._scaling.apply(x_ND)
        self._codebooks, self._prices = [], []
        for level, size in enumerate(self.level_sizes):
            found = balanced_kmeans(
                residual_ND, size, iterations=self.iterations, seed=self.seed + level, memory_mib=self.memory_mib
            )
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

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "iterations": self.iterations,
            "seed": self.seed,
            "fit_rows": self.fit_rows,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, codebooks and prices as named arrays."""
        return super().state_dict() | {f"price_{level}": price_V for level, price_V in enumerate(self._prices, start=1)}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = super().load(config, state)
        shapes = {f"price_{level}": (size,) for level, size in enumerate(quantizer.level_sizes, start=1)}
        quantizer._prices = list(check_arrays(cls.title, state, shapes).values())
        return quantizer
