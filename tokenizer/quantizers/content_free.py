"""The base of random and hash IDs, whose codes say nothing about content, so that every item decodes to the mean.

They are a lower bound for every tokenizer. A generator can still learn which ID follows which, but nothing that it learns
about one item helps with another.
"""

from typing import Self

import numpy as np

from tokenizer.common.checks import check_vectors
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.scaling import Scaling
from tokenizer.quantizers.spec import NoSettings


class ContentFree(Quantizer):
    """Base of quantizers without codebooks; a subclass adds `encode`.

    Their latent space has one column, in which every item and every codebook row is zero. So `tokenizer.unique` can treat
    them like the others: all free codes are equally near, and a colliding item takes the first.
    """

    settings_class = NoSettings
    _fitted_rows: np.ndarray

    def fit(self, x_ND: np.ndarray) -> Self:
        """Keep the mean and the number of rows of [N,D]; TokenizerError for NaN, infinity or an empty array."""
        x_ND = check_vectors(x_ND)
        self._make_room(x_ND.shape[1])
        self._scaling.mean_D[:] = x_ND.mean(axis=0, dtype=np.float64)
        self._fitted_rows[:] = len(x_ND)
        return self

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """The mean of the fitted rows for every item, float32 [N,D]."""
        return np.tile(self._scaling.mean_D, (len(self._checked_codes(codes_NL)), 1))

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """One column of zeros, float32 [N,1]."""
        return np.zeros((len(self._checked(x_ND)), 1), dtype=np.float32)

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,1] array of zeros per level."""
        self._check_fitted()
        return [np.zeros((size, 1), dtype=np.float32) for size in self.level_sizes]

    def state_dict(self) -> dict[str, np.ndarray]:
        """The mean and the number of the fitted rows."""
        self._check_fitted()
        return {"mean": self._scaling.mean_D, "fitted_rows": self._fitted_rows}

    def _make_room(self, width: int) -> None:
        self._scaling = Scaling.blank(width)
        self._fitted_rows = np.zeros(1, dtype=np.int64)


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
