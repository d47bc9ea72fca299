"""RQ-KMeans: k-means on the vectors, k-means on what is left over, and so on (OneRec Technical Report, section 1.1)."""

from typing import Any, Self

import numpy as np
import torch

from tokenizer.checks import check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.kmeans import Initialisation, kmeans, nearest_centroids

ENCODE_ROWS = 1 << 16


class RQKMeans:
    """Residual quantizer with one k-means codebook a level.

    With R^1 = x: C^l = k-means(R^l), code^l = index of the nearest row of C^l, R^(l+1) = R^l - C^l[code^l]
    (arXiv 2506.13695, section 1.1). Vectors are first shifted by their mean and divided by their root mean square, one
    number for all columns, so that float32 distances stay exact for data far from the origin; decode undoes it.

    level_sizes: codes per level, may differ. iterations: Lloyd's rounds per level at most. restarts: fits per level,
    the best is kept. fit_rows: a random sample of this many rows is used for fitting (None: all).
    """

    def __init__(
        self,
        level_sizes: list[int],
        *,
        iterations: int = 25,
        seed: int = 0,
        initialisation: Initialisation = "random",
        restarts: int = 1,
        fit_rows: int | None = None,
        memory_mib: int = 256,
    ) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.iterations = iterations
        self.seed = seed
        self.initialisation = initialisation
        self.restarts = restarts
        self.fit_rows = fit_rows
        self.memory_mib = memory_mib
        self._state: dict[str, np.ndarray] = {}

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn mean, scale and codebooks from [N,D] vectors; TokenizerError for NaN, infinity or an empty array."""
        x_ND = check_vectors(x_ND)
        if self.fit_rows is not None and self.fit_rows < len(x_ND):
            rows = np.random.default_rng(self.seed).choice(len(x_ND), self.fit_rows, replace=False)
            x_ND = x_ND[np.sort(rows)]
        mean_D = x_ND.mean(axis=0, dtype=np.float64)
        parts = (x_ND[start : start + ENCODE_ROWS] for start in range(0, len(x_ND), ENCODE_ROWS))
        scale = float(np.sqrt(sum(float(np.square(part - mean_D).sum()) for part in parts) / x_ND.size))
        self._state = {
            "mean": mean_D.astype(np.float32),
            "scale": np.asarray([scale if scale > 0 else 1.0], dtype=np.float32),
        }
        residual_ND = torch.from_numpy(self.latent(x_ND))
        for level, size in enumerate(self.level_sizes):
            result = kmeans(
                residual_ND,
                size,
                iterations=self.iterations,
                seed=self.seed + level,
                initialisation=self.initialisation,
                restarts=self.restarts,
            )
            residual_ND = residual_ND - result.centroids_KD[result.assignment_N]
            self._state[f"codebook_{level + 1}"] = result.centroids_KD.numpy()
        return self

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D], level by level the nearest codebook row."""
        latent_ND = torch.from_numpy(self.latent(x_ND))
        codebooks = [torch.from_numpy(codebook) for codebook in self.codebooks]
        codes_NL = np.empty((len(latent_ND), len(codebooks)), dtype=np.int32)
        for start in range(0, len(latent_ND), ENCODE_ROWS):
            residual_RD = latent_ND[start : start + ENCODE_ROWS]
            for level, codebook_VD in enumerate(codebooks):
                codes_R, _ = nearest_centroids(residual_RD, codebook_VD)
                residual_RD = residual_RD - codebook_VD[codes_R]
                codes_NL[start : start + ENCODE_ROWS, level] = codes_R.numpy()
        return codes_NL

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes stand for."""
        codebooks = self.codebooks
        codes_NL = check_codes(codes_NL, self.level_sizes)
        latent_ND = sum(
            (codebook[codes_NL[:, level]] for level, codebook in enumerate(codebooks[1:], start=1)),
            start=codebooks[0][codes_NL[:, 0]],
        )
        return np.asarray(latent_ND * self._state["scale"] + self._state["mean"], dtype=np.float32)

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D], centred and scaled: the space in which codebook rows add up."""
        if not self._state:
            raise TokenizerError("this RQ-KMeans has not been fitted; call fit first, or load a saved artefact.")
        mean_D = self._state["mean"]
        return np.asarray((check_vectors(x_ND, width=len(mean_D)) - mean_D) / self._state["scale"], dtype=np.float32)

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level."""
        if not self._state:
            raise TokenizerError("this RQ-KMeans has not been fitted; call fit first, or load a saved artefact.")
        return [self._state[f"codebook_{level + 1}"] for level in range(len(self.level_sizes))]

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "iterations": self.iterations,
            "seed": self.seed,
            "initialisation": self.initialisation,
            "restarts": self.restarts,
            "fit_rows": self.fit_rows,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale and codebooks as named arrays."""
        return dict(self._state)

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError when an array is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state else 0
        expected: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (1,)}
        expected |= {f"codebook_{level + 1}": (size, width) for level, size in enumerate(quantizer.level_sizes)}
        for name, shape in expected.items():
            if name not in state or state[name].shape != shape:
                found = state[name].shape if name in state else "nothing"
                raise TokenizerError(f"RQ-KMeans: array {name!r} should have shape {shape}, found {found}.")
        quantizer._state = {name: np.asarray(state[name], dtype=np.float32) for name in expected}
        return quantizer
