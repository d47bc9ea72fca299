"""The settings of quantizers, as a config holds them under `tokenizer.quantizer`, and the quantizers made from them."""

from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Field, ValidationError

from tokenizer.common.settings import Length, Seed, Settings, Width
from tokenizer.errors import TokenizerError
from tokenizer.quantizers import Quantizer

Method = Literal["rq_vae", "rq_kmeans", "balanced_rq_kmeans", "rq_kmeans_plus", "residual_fsq", "opq", "random", "hash"]
Uniqueness = Literal["nearest_free", "append_code", "sinkhorn"]
CLASSES: dict[str, str] = {
    "rq_kmeans": "RQKMeans",
    "balanced_rq_kmeans": "BalancedRQKMeans",
    "rq_kmeans_plus": "RQKMeansPlus",
    "rq_vae": "RQVAE",
    "residual_fsq": "ResidualFSQ",
    "opq": "OPQ",
    "random": "RandomIDs",
    "hash": "HashIDs",
}  # each in the file named after its method, imported only when used, because half of them need torch


class RQKMeansSpec(Settings):
    """See `tokenizer.quantizers.rq_kmeans.RQKMeans`."""

    iterations: int = Field(default=25, ge=1)
    initialisation: Literal["spread", "random", "k-means++"] = "spread"
    restarts: int = Field(default=1, ge=1)
    fit_rows: int | None = Field(default=None, ge=1)
    beam_width: int = Field(default=1, ge=1)


class BalancedRQKMeansSpec(Settings):
    """See `tokenizer.quantizers.balanced_rq_kmeans.BalancedRQKMeans`."""

    iterations: int = Field(default=25, ge=1)
    fit_rows: int | None = Field(default=None, ge=1)


class AutoencoderSpec(Settings):
    """Shared by all quantizers with networks; see `tokenizer.quantizers.autoencoder`."""

    hidden: list[Width] = Field(default=[256], max_length=100)
    steps: int = Field(default=1000, ge=1)
    batch_size: Length = 512
    learning_rate: float = Field(default=3e-3, gt=0)


class RQKMeansPlusSpec(AutoencoderSpec):
    """See `tokenizer.quantizers.rq_kmeans_plus.RQKMeansPlus`. A good start needs fewer and smaller steps."""

    steps: int = Field(default=300, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    commitment: float = Field(default=0.0, ge=0)


class RQVAESpec(AutoencoderSpec):
    """See `tokenizer.quantizers.rq_vae.RQVAE`."""

    latent_dimensions: Width = 64
    gradient: Literal["rotation", "ste", "gumbel"] = "rotation"
    commitment: float | None = Field(default=None, ge=0)
    decay: float = Field(default=0.99, gt=0, lt=1)
    behaviour_weight: float = Field(default=0.0, ge=0)
    diversity_weight: float = Field(default=0.0, ge=0)
    diversity_clusters: int = Field(default=10, ge=1)


class ResidualFSQSpec(AutoencoderSpec):
    """See `tokenizer.quantizers.residual_fsq.ResidualFSQ`."""

    values_per_axis: int = Field(default=2, ge=2, le=65_536)
    axes: int | None = Field(default=None, ge=1, le=65_536)
    evenness: float = Field(default=30.0, ge=0)


class OPQSpec(Settings):
    """See `tokenizer.quantizers.opq.OPQ`; `rotation: false` is plain product quantization."""

    rotation: bool = True
    iterations: int = Field(default=25, ge=1)
    fit_rows: int | None = Field(default=None, ge=1)


class NoSettings(Settings):
    """For random and hash IDs, which have no settings besides levels and seed."""


class QuantizerSpec(Settings):
    """How vectors become semantic IDs.

    method: the quantizer; its settings are under its own name. level_sizes: codes per level. unique: how items with the same
    codes get different IDs, see `tokenizer.unique.collisions`. memory_mib: scratch memory for fitting and encoding, beside the
    vectors themselves, in MiB.
    """

    method: Method = "rq_kmeans"
    level_sizes: list[Length] = Field(default=[256, 256, 256], min_length=1, max_length=64)
    unique: Uniqueness = "nearest_free"
    memory_mib: int = Field(default=256, ge=16, le=1 << 24)
    seed: Seed = 0
    rq_kmeans: RQKMeansSpec = RQKMeansSpec()
    balanced_rq_kmeans: BalancedRQKMeansSpec = BalancedRQKMeansSpec()
    rq_kmeans_plus: RQKMeansPlusSpec = RQKMeansPlusSpec()
    rq_vae: RQVAESpec = RQVAESpec()
    residual_fsq: ResidualFSQSpec = ResidualFSQSpec()
    opq: OPQSpec = OPQSpec()
    random: NoSettings = NoSettings()
    hash: NoSettings = NoSettings()


def make_quantizer(spec: QuantizerSpec, level_sizes: list[int]) -> Quantizer:
    """An unfitted quantizer with the settings of the spec and these level sizes."""
    settings: Settings = getattr(spec, spec.method)
    made = quantizer_class(spec.method)
    return made(level_sizes, seed=spec.seed, memory_mib=spec.memory_mib, **settings.model_dump())


def restore_quantizer(config: dict[str, Any], state: dict[str, np.ndarray]) -> Quantizer:
    """The fitted quantizer of an artefact's config and arrays; TokenizerError when they do not fit."""
    method, settings = config.get("method"), config.get("quantizer")
    if not isinstance(method, str) or method not in get_args(Method) or not isinstance(settings, dict):
        raise TokenizerError(
            f"semantic IDs: no quantizer of a known method in their config (method: {method!r}); tokenize again."
        )
    try:
        return quantizer_class(method).load(settings, state)
    except (TypeError, ValidationError) as error:  # an unknown setting, or a missing one
        raise TokenizerError(
            f"semantic IDs: settings of the quantizer do not fit this version ({error}); tokenize again."
        ) from error


def quantizer_class(method: str) -> type[Quantizer]:
    """The class of a method."""
    found: type[Quantizer] = getattr(import_module(f"tokenizer.quantizers.{method}"), CLASSES[method])
    return found
