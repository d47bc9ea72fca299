"""The base of random and hash IDs, whose codes say nothing about content, so that every item decodes to the mean.

They are a lower bound for every tokenizer. A generator can still learn which ID follows which, but nothing that it learns
about one item helps with another.
"""

from typing import Any, Self

import numpy as np

from tokenizer.common.checks import check_arrays, check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError


class ContentFree:
    """Base of quantizers without codebooks; a subclass adds `encode`.

    Their latent space has one column, in which every item and every codebook row is zero. So `tokenizer.unique` can treat
    them like the others: all free codes are equally near, and a colliding item takes the first.
    memory_mib is part of the common interface; the scratch memory stays far below it.
    """

    def __init__(self, level_sizes: list[int], *, seed: int = 0, memory_mib: int = 256) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.seed = seed
        self.memory_mib = memory_mib
        self._state: dict[str, np.ndarray] = {}

    def fit(self, x_ND: np.ndarray) -> Self:
        """Keep the mean and the number of rows of [N,D]; TokenizerError for NaN, infinity or an empty array."""
        x_ND = check_vectors(x_ND)
        self._state = {
            "mean": x_ND.mean(axis=0, dtype=np.float64).astype(np.float32),
            "fitted_rows": np.asarray([len(x_ND)], dtype=np.int64),
        }
        return self

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L]."""
        raise NotImplementedError

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of items that join later, int32 [N,L]."""
        return self.encode(x_ND)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """The mean of the fitted rows for every item, float32 [N,D]."""
        state = self._fitted()
        codes_NL = check_codes(codes_NL, self.level_sizes)
        return np.tile(state["mean"], (len(codes_NL), 1))

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """One column of zeros, float32 [N,1]."""
        return np.zeros((len(self._checked(x_ND)), 1), dtype=np.float32)

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,1] array of zeros per level."""
        self._fitted()
        return [np.zeros((size, 1), dtype=np.float32) for size in self.level_sizes]

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {"level_sizes": self.level_sizes, "seed": self.seed, "memory_mib": self.memory_mib}

    def state_dict(self) -> dict[str, np.ndarray]:
        """The mean and the number of the fitted rows."""
        return dict(self._state)

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state and state["mean"].ndim else 0
        check_arrays(cls.__name__, state, {"mean": (width,), "fitted_rows": (1,)})
        quantizer._state = {
            "mean": np.asarray(state["mean"], dtype=np.float32),
            "fitted_rows": np.asarray(state["fitted_rows"], dtype=np.int64),
        }
        return quantizer

    def _fitted(self) -> dict[str, np.ndarray]:
        if not self._state:
            raise TokenizerError(
                f"this {type(self).__name__} has not been fitted; call fit first, or load a saved artefact."
            )
        return self._state

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        return check_vectors(x_ND, width=len(self._fitted()["mean"]))


def mix(key_N: np.ndarray) -> np.ndarray:
    """Map uint64 keys one to one to scrambled ones; every bit of the result depends on every bit of the key.

    This is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    key_N = (key_N ^ (key_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key_N = (key_N ^ (key_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key_N ^ (key_N >> np.uint64(31)))


def scatter(key_N: np.ndarray, level_sizes: list[int], seed: int) -> np.ndarray:
    """Codes int32 [N,L], evenly spread over every level; they depend only on the uint64 key and the seed."""
    salts = np.random.default_rng(seed).integers(1 << 63, size=len(level_sizes), dtype=np.uint64)
    codes_NL = np.empty((len(key_N), len(level_sizes)), dtype=np.int32)
    for level, (size, salt) in enumerate(zip(level_sizes, salts, strict=True)):
        codes_NL[:, level] = mix(mix(key_N ^ salt) + salt) % np.uint64(size)
    return codes_NL
