"""RQ-KMeans: k-means on the vectors, k-means on what is left over, and so on (OneRec Technical Report, section 1.1)."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from tokenizer.checks import check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.kmeans import Initialisation, lloyd
from tokenizer.nearest import row_chunks
from tokenizer.quantizers.residual import MIB, ResidualEncoder, sum_of_rows
from tokenizer.quantizers.scaling import Scaling

PART_ROWS = 1 << 14  # rows scaled at once, at most


class RQKMeans:
    """Residual quantizer with one k-means codebook a level.

    With R^1 = x: C^l = k-means(R^l), code^l = index of the nearest row of C^l, R^(l+1) = R^l - C^l[code^l]
    (arXiv 2506.13695, section 1.1). Vectors are first shifted by their mean and divided by their root mean square, one
    number for all columns, so that float32 distances stay exact for data far from the origin; decode undoes it.

    level_sizes: codes per level, may differ. iterations: Lloyd's rounds per level at most. initialisation: where they
    start, see `tokenizer.kmeans.start_centroids`. restarts: fits per level, the best is kept. fit_rows: a random sample
    of this many rows is used for fitting (None: all). beam_width: partial codes kept per item while encoding; 1 takes
    the nearest code level by level, as in the paper. memory_mib: bound of the scratch memory, beside the vectors, the
    result and, while fitting, one copy of the fitted rows.
    """

    def __init__(
        self,
        level_sizes: list[int],
        *,
        iterations: int = 25,
        seed: int = 0,
        initialisation: Initialisation = "spread",
        restarts: int = 1,
        fit_rows: int | None = None,
        beam_width: int = 1,
        memory_mib: int = 256,
    ) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.iterations = iterations
        self.seed = seed
        self.initialisation: Initialisation = initialisation
        self.restarts = restarts
        self.fit_rows = fit_rows
        self.beam_width = beam_width
        self.memory_mib = memory_mib
        self._scaling = Scaling(np.zeros(0, dtype=np.float32), np.ones(1, dtype=np.float32))
        self._codebooks: list[np.ndarray] = []

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn mean, scale and codebooks from [N,D] vectors; TokenizerError for NaN, infinity or an empty array."""
        x_ND = sample_rows(check_vectors(x_ND), self.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        residual_ND = self._scaling.apply(x_ND)
        self._codebooks = []
        for level, size in enumerate(self.level_sizes):
            found = lloyd(
                residual_ND,
                size,
                iterations=self.iterations,
                seed=self.seed + level,
                initialisation=self.initialisation,
                restarts=self.restarts,
            )
            subtract_rows(residual_ND, found.centroids_KD, found.assignment_N)
            self._codebooks.append(found.centroids_KD)
        return self

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D], level by level the nearest codebook row (or as `beam_width` says)."""
        x_ND = self._checked(x_ND)
        encoder = ResidualEncoder(self._codebooks, beam_width=self.beam_width, memory_mib=max(1, self.memory_mib // 2))
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for part, scaled_RD in scaled_parts(x_ND, self._scaling, self.memory_mib):
            codes_NL[part] = encoder.encode(scaled_RD)
        return codes_NL

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """`encode`: every row's codes depend on that row only."""
        return self.encode(x_ND)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes stand for."""
        codebooks = self.codebooks
        return decoded_rows(check_codes(codes_NL, self.level_sizes), codebooks, self._scaling, self.memory_mib)

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D], centred and scaled: the space in which codebook rows add up."""
        return self._scaling.apply(self._checked(x_ND))

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level."""
        if not self._codebooks:
            raise TokenizerError("this RQ-KMeans has not been fitted; call fit first, or load a saved artefact.")
        return list(self._codebooks)

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "iterations": self.iterations,
            "seed": self.seed,
            "initialisation": self.initialisation,
            "restarts": self.restarts,
            "fit_rows": self.fit_rows,
            "beam_width": self.beam_width,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale and codebooks as named arrays."""
        return codebook_state(self._scaling, self.codebooks)

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError when an array is missing or has a wrong shape."""
        quantizer = cls(**config)
        quantizer._scaling, quantizer._codebooks = read_codebook_state("RQ-KMeans", quantizer.level_sizes, state)
        return quantizer

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        return check_vectors(x_ND, width=self.codebooks[0].shape[1])


def sample_rows(x_ND: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """A random sample of `count` rows in their order, or all rows when there are no more (or count is None)."""
    if count is None or count >= len(x_ND):
        return x_ND
    return np.asarray(x_ND[np.sort(np.random.default_rng(seed).choice(len(x_ND), count, replace=False))])


def subtract_rows(residual_ND: np.ndarray, codebook_VD: np.ndarray, codes_N: np.ndarray) -> None:
    """Take each row's codebook row off it, in place."""
    for start, stop in row_chunks(len(residual_ND), residual_ND.shape[1]):
        residual_ND[start:stop] -= codebook_VD[codes_N[start:stop]]


def scaled_parts(x_ND: np.ndarray, scaling: Scaling, memory_mib: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Ranges of rows and the scaled rows, each part within a quarter of `memory_mib`."""
    width = max(x_ND.shape[1], memory_mib * MIB // 4 // PART_ROWS)
    for start, stop in row_chunks(len(x_ND), width, memory_mib * MIB // 4):
        yield slice(start, stop), scaling.apply(x_ND[start:stop])


def decoded_rows(codes_NL: np.ndarray, codebooks: list[np.ndarray], scaling: Scaling, memory_mib: int) -> np.ndarray:
    """Sums of codebook rows, unscaled, float32 [N,D]; worked out by parts, each within a quarter of `memory_mib`."""
    x_ND = np.empty((len(codes_NL), codebooks[0].shape[1]), dtype=np.float32)
    for start, stop in row_chunks(len(x_ND), x_ND.shape[1], memory_mib * MIB // 4):
        x_ND[start:stop] = scaling.undo(sum_of_rows(codes_NL[start:stop], codebooks))
    return x_ND


def codebook_state(scaling: Scaling, codebooks: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays "mean", "scale" and "codebook_1" … that residual k-means quantizers keep."""
    numbered = {f"codebook_{level}": codebook_VD for level, codebook_VD in enumerate(codebooks, start=1)}
    return {"mean": scaling.mean_D, "scale": scaling.scale, **numbered}


def read_codebook_state(
    method: str, level_sizes: list[int], state: dict[str, np.ndarray]
) -> tuple[Scaling, list[np.ndarray]]:
    """The inverse of `codebook_state`; TokenizerError when an array is missing or has a wrong shape."""
    width = state["mean"].shape[-1] if "mean" in state and state["mean"].ndim else 0
    expected: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (1,)}
    expected |= {f"codebook_{level}": (size, width) for level, size in enumerate(level_sizes, start=1)}
    for name, shape in expected.items():
        if name not in state or state[name].shape != shape:
            found = state[name].shape if name in state else "nothing"
            raise TokenizerError(f"{method}: array {name!r} should have shape {shape}, found {found}.")
    arrays = {name: np.asarray(state[name], dtype=np.float32) for name in expected}
    return Scaling(arrays["mean"], arrays["scale"]), [arrays[f"codebook_{n + 1}"] for n in range(len(level_sizes))]
