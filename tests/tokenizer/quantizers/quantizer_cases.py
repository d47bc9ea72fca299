"""Every quantizer as the shared suite builds it, the vectors it is tried on, and what is measured on them."""

from typing import Any

import numpy as np
import pytest

from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.spec import Method, QuantizerSpec, make_quantizer

NETWORK: dict[str, Any] = {"hidden": [32], "steps": 120, "batch_size": 128}
SMALL: dict[str, Any] = {**NETWORK, "steps": 80}
CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "rq_kmeans": ("rq_kmeans", {}),
    "balanced_rq_kmeans": ("balanced_rq_kmeans", {}),
    "rq_kmeans_plus": ("rq_kmeans_plus", NETWORK),
    "rq_vae": ("rq_vae", {**NETWORK, "latent_dimensions": 8}),
    "rq_vae, straight through": ("rq_vae", {**NETWORK, "latent_dimensions": 8, "gradient": "ste"}),
    "rq_vae, gumbel": ("rq_vae", {**NETWORK, "latent_dimensions": 8, "gradient": "gumbel"}),
    "rq_vae, diversity": ("rq_vae", {**NETWORK, "latent_dimensions": 8, "diversity_weight": 0.1}),
    "residual_fsq": ("residual_fsq", NETWORK),
    "opq": ("opq", {}),
    "pq": ("opq", {"rotation": False}),
    "random": ("random", {}),
    "hash": ("hash", {}),
}
TRAINED = {case for case, (_, options) in CASES.items() if "steps" in options}
CONTENT_FREE = {"random", "hash"}
PARALLEL = {"opq", "pq"}  # levels code different columns, none refines another
EXACT = {"rq_kmeans", "balanced_rq_kmeans", "opq", "pq"}  # decoding is adding rows up: few items come back as they were

every_method = pytest.mark.parametrize("case", CASES)
content_methods = pytest.mark.parametrize("case", [case for case in CASES if case not in CONTENT_FREE])


def make(case: str, level_sizes: list[int], *, seed: int = 0, memory_mib: int = 64, **changes: Any) -> Quantizer:
    method, options = CASES[case]
    options = {**options, **(changes if case in TRAINED else {})}
    spec = QuantizerSpec.model_validate({"method": method, method: options, "seed": seed, "memory_mib": memory_mib})
    return make_quantizer(spec, level_sizes)


def clustered(items: int = 400, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse, fine = 3 * rng.normal(size=(6, width)), rng.normal(size=(5, width))
    noise = 0.1 * rng.normal(size=(items, width))
    return (coarse[rng.integers(6, size=items)] + fine[rng.integers(5, size=items)] + noise).astype(np.float32)


def squared_error(x: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.square(x - decoded, dtype=np.float64).sum())


def lost(quantizer: Quantizer, x: np.ndarray) -> float:
    """Share of the variance that the codes lose."""
    return squared_error(x, quantizer.decode(quantizer.encode(x))) / squared_error(x, x.mean(0))


def used(quantizer: Quantizer, x: np.ndarray) -> list[int]:
    return [len(np.unique(column)) for column in quantizer.encode(x).T]
