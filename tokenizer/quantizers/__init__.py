"""Quantizers, one per file, and the parts that they share. All quantizers have the same three main methods.

    fit(x_ND) -> self            learn the codebooks
    encode(x_ND) -> codes_NL     int32, level l in 0..level_sizes[l]-1
    decode(codes_NL) -> x_ND     float32, in the space of the input

All of them are additive: in its latent space, a vector is approximated by the sum of one codebook row per level.
`tokenizer.unique.collisions` uses `codebooks` and `latent` to compute the cost of giving an item another code.
"""

from typing import Any, Protocol, Self

import numpy as np


class Quantizer(Protocol):
    """The methods that the rest of the tokenizer uses."""

    level_sizes: list[int]

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn the codebooks from float rows."""

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes, int32 [N,L]."""

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of items that join later, each row independent of the others, int32 [N,L]."""

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors that the codes represent, in the space of the input, float32 [N,D]."""

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The vectors in the latent space, where codebook rows add up, float32 [N,W]."""

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,W] array per level."""

    def config(self) -> dict[str, Any]:
        """All constructor arguments as plain JSON values."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything learnt, as named arrays."""

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
