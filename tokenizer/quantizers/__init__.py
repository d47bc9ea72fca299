"""Quantizers, one per file, all with the same three verbs.

    fit(x_ND) -> self            learn the codebooks
    encode(x_ND) -> codes_NL     int32, level l in 0..level_sizes[l]-1
    decode(codes_NL) -> x_ND     float32, in the space of the input

All quantizers here are additive: in a space of their own (`latent`) a vector is the sum of one codebook row per level.
`codebooks` and `latent` let `tokenizer.unique.collisions` measure what it costs to give an item another code.
"""

from typing import Any, Protocol, Self

import numpy as np


class Quantizer(Protocol):
    """What the rest of the tokenizer asks of a quantizer."""

    level_sizes: list[int]

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn the codebooks from float rows."""

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes, int32 [N,L]."""

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of items that join later, each for itself; `encode` itself unless codes depend on the other rows."""

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors in the space of the input, float32 [N,D]."""

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """The vectors in the space where codebook rows add up, float32 [N,W]."""

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,W] array per level."""

    def config(self) -> dict[str, Any]:
        """All constructor arguments as plain JSON values."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything learnt, as named arrays."""

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore; TokenizerError naming the array that is missing or has a wrong shape."""
