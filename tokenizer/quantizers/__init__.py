"""Quantizers, one per file, and the parts that they share.

All of them are additive: in its latent space, a vector is approximated by the sum of one codebook row per level.
`tokenizer.unique.collisions` uses `codebooks` and `latent` to compute the cost of giving an item another code.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from tokenizer.common.checks import check_codes, check_level_sizes, check_vectors, fill_arrays
from tokenizer.common.settings import Settings
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.scaling import Scaling


class Quantizer(ABC):
    """Learns codebooks from vectors, and turns vectors into codes and codes into vectors.

    level_sizes: codes per level, may differ. seed: the same seed gives the same codes on the same machine. memory_mib: bound of
    the scratch memory in MiB, beside the vectors, the result and, while fitting, one copy of the fitted rows. settings: those
    of the method in `tokenizer.quantizers.spec`, which refuses unknown ones.
    """

    title: ClassVar[str]  # the quantizer's name in error messages
    settings_class: ClassVar[type[Settings]]
    settings: Settings

    def __init__(self, level_sizes: list[int], *, seed: int = 0, memory_mib: int = 256, **settings: Any) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.seed, self.memory_mib = seed, memory_mib
        self.settings = self.settings_class(**settings)
        self._scaling = Scaling.blank(0)  # no column: not fitted

    @abstractmethod
    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn the codebooks from [N,D] vectors; TokenizerError for NaN, infinity or an empty array."""

    @abstractmethod
    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of vectors [N,D], int32 [N,L]; those of level l are in 0..level_sizes[l]-1."""

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of items that join later, each row independent of the others, int32 [N,L]."""
        return self.encode(x_ND)

    @abstractmethod
    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors that the codes represent, in the space of the input, float32 [N,D]."""

    @abstractmethod
    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The vectors in the latent space, where codebook rows add up, float32 [N,W]."""

    @property
    @abstractmethod
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,W] array per level."""

    def config(self) -> dict[str, Any]:
        """All constructor arguments as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            **self.settings.model_dump(),
            "seed": self.seed,
            "memory_mib": self.memory_mib,
        }

    @abstractmethod
    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything learnt, as named arrays: views of the quantizer's own, which `load` fills."""

    @abstractmethod
    def _make_room(self, width: int) -> None:
        """Allocate the arrays of `state_dict` for vectors of `width` columns."""

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = cls(**config)
        quantizer._make_room(np.atleast_1d(state.get("mean", 0)).shape[-1])
        fill_arrays(cls.title, quantizer.state_dict(), state)
        return quantizer

    def _check_fitted(self) -> None:
        if not len(self._scaling.mean_D):
            raise TokenizerError(f"this {self.title} has not been fitted; call fit first, or load a saved artefact.")

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        self._check_fitted()
        return check_vectors(x_ND, width=len(self._scaling.mean_D))

    def _checked_codes(self, codes_NL: np.ndarray) -> np.ndarray:
        self._check_fitted()
        return check_codes(codes_NL, self.level_sizes)


def by_level(name: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One array per level as `name_1`, `name_2` and so on."""
    return {f"{name}_{level}": array for level, array in enumerate(arrays, start=1)}
