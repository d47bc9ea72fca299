"""The base of the residual k-means quantizers: scaling, decoding and saving.

A subclass learns the codebooks and chooses the codes.
"""

from collections.abc import Iterator

import numpy as np

from tokenizer.clustering.nearest import row_chunks
from tokenizer.quantizers import Quantizer, by_level
from tokenizer.quantizers.residual import MIB, sum_of_rows
from tokenizer.quantizers.scaling import Scaling

PART_ROWS = 1 << 14  # rows scaled at once, at most


class ResidualKMeans(Quantizer):
    """Base of RQ-KMeans and balanced RQ-KMeans. Their latent space is the space of the scaled vectors."""

    _codebooks: list[np.ndarray]

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes represent."""
        codes_NL = self._checked_codes(codes_NL)
        x_ND = np.empty((len(codes_NL), len(self._scaling.mean_D)), dtype=np.float32)
        for rows in row_chunks(*x_ND.shape, self.memory_mib * MIB // 4):
            x_ND[rows] = self._scaling.undo(sum_of_rows(codes_NL[rows], self._codebooks))
        return x_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D], centred and scaled: the space in which codebook rows add up."""
        return self._scaling.apply(self._checked(x_ND))

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level."""
        self._check_fitted()
        return list(self._codebooks)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays "mean", "scale" and "codebook_1", "codebook_2" and so on."""
        return self._scaling.arrays() | by_level("codebook", self.codebooks)

    def _make_room(self, width: int) -> None:
        self._scaling = Scaling.blank(width)
        self._codebooks = [np.zeros((size, width), dtype=np.float32) for size in self.level_sizes]


def sample_rows(x_ND: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """A random sample of `count` rows in their order, or all rows if there are no more or count is None."""
    if count is None or count >= len(x_ND):
        return x_ND
    return np.asarray(x_ND[np.sort(np.random.default_rng(seed).choice(len(x_ND), count, replace=False))])


def subtract_rows(residual_ND: np.ndarray, codebook_VD: np.ndarray, codes_N: np.ndarray) -> None:
    """Subtract from each row its codebook row, in place."""
    for rows in row_chunks(*residual_ND.shape):
        residual_ND[rows] -= codebook_VD[codes_N[rows]]


def scaled_parts(x_ND: np.ndarray, scaling: Scaling, memory_mib: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ranges of rows and their scaled rows, each within a quarter of memory_mib."""
    width = max(x_ND.shape[1], memory_mib * MIB // 4 // PART_ROWS)
    for rows in row_chunks(len(x_ND), width, memory_mib * MIB // 4):
        yield rows, scaling.apply(x_ND[rows])
