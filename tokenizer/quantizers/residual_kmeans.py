"""The base of the residual k-means quantizers: scaling, decoding, saving and loading.

A subclass learns the codebooks and chooses the codes.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np

from tokenizer.clustering.nearest import row_chunks
from tokenizer.common.checks import check_arrays, check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.residual import MIB, sum_of_rows
from tokenizer.quantizers.scaling import Scaling

PART_ROWS = 1 << 14  # rows scaled at once, at most


class ResidualKMeans:
    """Base of RQ-KMeans and balanced RQ-KMeans. Their latent space is the space of the scaled vectors."""

    title: ClassVar[str]  # the quantizer's name in error messages

    def __init__(self, level_sizes: list[int], *, seed: int, memory_mib: int) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.seed = seed
        self.memory_mib = memory_mib
        self._scaling = Scaling(np.zeros(0, dtype=np.float32), np.ones(1, dtype=np.float32))
        self._codebooks: list[np.ndarray] = []

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes represent."""
        codebooks, codes_NL = self.codebooks, check_codes(codes_NL, self.level_sizes)
        x_ND = np.empty((len(codes_NL), codebooks[0].shape[1]), dtype=np.float32)
        for start, stop in row_chunks(len(x_ND), x_ND.shape[1], self.memory_mib * MIB // 4):
            x_ND[start:stop] = self._scaling.undo(sum_of_rows(codes_NL[start:stop], codebooks))
        return x_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D], centred and scaled: the space in which codebook rows add up."""
        return self._scaling.apply(self._checked(x_ND))

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level."""
        if not self._codebooks:
            raise TokenizerError(f"this {self.title} has not been fitted; call fit first, or load a saved artefact.")
        return list(self._codebooks)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays "mean", "scale" and "codebook_1", "codebook_2" and so on."""
        numbered = {f"codebook_{level}": codebook_VD for level, codebook_VD in enumerate(self.codebooks, start=1)}
        return {"mean": self._scaling.mean_D, "scale": self._scaling.scale, **numbered}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state and state["mean"].ndim else 0
        shapes: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (1,)}
        names = {f"codebook_{level}": size for level, size in enumerate(quantizer.level_sizes, start=1)}
        arrays = check_arrays(cls.title, state, shapes | {name: (size, width) for name, size in names.items()})
        quantizer._scaling = Scaling(arrays["mean"], arrays["scale"])
        quantizer._codebooks = [arrays[name] for name in names]
        return quantizer

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        return check_vectors(x_ND, width=self.codebooks[0].shape[1])


def sample_rows(x_ND: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """A random sample of `count` rows in their order, or all rows if there are no more or count is None."""
    if count is None or count >= len(x_ND):
        return x_ND
    return np.asarray(x_ND[np.sort(np.random.default_rng(seed).choice(len(x_ND), count, replace=False))])


def subtract_rows(residual_ND: np.ndarray, codebook_VD: np.ndarray, codes_N: np.ndarray) -> None:
    """Subtract from each row its codebook row, in place."""
    for start, stop in row_chunks(len(residual_ND), residual_ND.shape[1]):
        residual_ND[start:stop] -= codebook_VD[codes_N[start:stop]]


def scaled_parts(x_ND: np.ndarray, scaling: Scaling, memory_mib: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ranges of rows and their scaled rows, each within a quarter of memory_mib."""
    width = max(x_ND.shape[1], memory_mib * MIB // 4 // PART_ROWS)
    for start, stop in row_chunks(len(x_ND), width, memory_mib * MIB // 4):
        yield slice(start, stop), scaling.apply(x_ND[start:stop])
