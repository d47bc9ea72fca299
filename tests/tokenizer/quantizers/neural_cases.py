"""Small networks, and what the tests of quantizers with networks measure."""

from typing import Any

import numpy as np

from tokenizer.quantizers import Quantizer

SMALL: dict[str, Any] = {"hidden": [32], "steps": 80, "batch_size": 128}


def low_rank(items: int, width: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(items, 2)) @ rng.normal(size=(2, width))).astype(np.float32)


def lost(quantizer: Quantizer, x: np.ndarray) -> float:
    """Share of the variance that the codes lose."""
    return float(np.square(x - quantizer.decode(quantizer.encode(x))).sum() / np.square(x - x.mean(0)).sum())


def used(quantizer: Quantizer, x: np.ndarray) -> list[int]:
    return [len(np.unique(column)) for column in quantizer.encode(x).T]
