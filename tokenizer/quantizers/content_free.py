"""What random and hash IDs share: codes that say nothing about content, so every item decodes to the mean.

They are the floor that a tokenizer has to rise above: a generator can still learn which IDs follow which, item by item,
but nothing it learns about one item carries over to another.
"""

from typing import Any, Self

import numpy as np

from tokenizer.common.checks import check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError


class ContentFree:
    """Base of quantizers without codebooks; a subclass adds `encode`.

    So that `tokenizer.unique` can treat them like the others, their latent space has one column in which every item and every
    codebook row is zero: all free codes are then equally near, and a collider takes the first.
    memory_mib is accepted for the sake of the common interface; the work is done in blocks far below it.
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
        """The mean and how many rows were fitted."""
        return dict(self._state)

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError when an array is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state and state["mean"].ndim else 0
        for name, shape in {"mean": (width,), "fitted_rows": (1,)}.items():
            if name not in state or state[name].shape != shape:
                found = state[name].shape if name in state else "nothing"
                raise TokenizerError(f"{cls.__name__}: array {name!r} should have shape {shape}, found {found}.")
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
    """Scramble uint64 keys one to one; every bit of the result depends on every bit of the key.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    key_N = (key_N ^ (key_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key_N = (key_N ^ (key_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key_N ^ (key_N >> np.uint64(31)))


def scatter(key_N: np.ndarray, level_sizes: list[int], seed: int) -> np.ndarray:
    """Codes int32 [N,L], spread evenly over every level and fixed by the uint64 key and the seed alone."""
    salts = np.random.default_rng(seed).integers(1 << 63, size=len(level_sizes), dtype=np.uint64)
    codes_NL = np.empty((len(key_N), len(level_sizes)), dtype=np.int32)
    for level, (size, salt) in enumerate(zip(level_sizes, salts, strict=True)):
        codes_NL[:, level] = mix(mix(key_N ^ salt) + salt) % np.uint64(size)
    return codes_NL
