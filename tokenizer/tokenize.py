"""From item vectors to the artefact: fit a quantizer, encode, make the IDs unique, measure."""

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from tokenizer.checks import check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quality import quality_figures
from tokenizer.quantizers import Quantizer
from tokenizer.semantic_ids import SemanticIds
from tokenizer.unique import append_code, nearest_free

if TYPE_CHECKING:
    from tokenizer.quantizers.rq_kmeans import RQKMeans
    from tokenizer.quantizers.rq_vae import RQVAE


class RQKMeansSpec(BaseModel):
    """Settings of RQ-KMeans; see `tokenizer.quantizers.rq_kmeans.RQKMeans`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=25, ge=1)
    initialisation: Literal["random", "k-means++"] = "random"
    restarts: int = Field(default=1, ge=1)
    fit_rows: int | None = Field(default=None, ge=1)


class RQVAESpec(BaseModel):
    """Settings of RQ-VAE; see `tokenizer.quantizers.rq_vae.RQVAE`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: list[int] = [256]
    latent_dimensions: int = Field(default=64, ge=1)
    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    commitment: float = Field(default=0.25, ge=0)
    decay: float = Field(default=0.99, gt=0, lt=1)


class QuantizerSpec(BaseModel):
    """How vectors become IDs.

    method: which quantizer; the settings of that one under `rq_kmeans` or `rq_vae` apply. level_sizes: codes per level.
    unique: how items with the same codes are told apart, see `tokenizer.unique`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["rq_kmeans", "rq_vae"] = "rq_kmeans"
    level_sizes: list[int] = Field(default=[256, 256, 256], min_length=1)
    unique: Literal["nearest_free", "append_code"] = "nearest_free"
    seed: int = 0
    rq_kmeans: RQKMeansSpec = RQKMeansSpec()
    rq_vae: RQVAESpec = RQVAESpec()


def tokenize_items(
    vectors_ND: np.ndarray, item_ids: pl.Series, spec: QuantizerSpec, *, source: dict[str, Any] | None = None
) -> SemanticIds:
    """Give every item a unique semantic ID and say how good the IDs are.

    vectors_ND: one row per item id. A level with more codes than there are items is cut to the number of items, which
    `quality["notes"]` says. source: plain JSON values on where the vectors come from, kept in the artefact's config
    beside a SHA-256 of the vectors and ids. Raises TokenizerError for unusable vectors or too few possible IDs.
    """
    vectors_ND = check_vectors(vectors_ND)
    if len(vectors_ND) != len(item_ids):
        raise TokenizerError(f"{len(vectors_ND)} vectors for {len(item_ids)} item ids; there must be one each.")
    notes = []
    level_sizes = [min(size, len(vectors_ND)) for size in spec.level_sizes]
    if level_sizes != spec.level_sizes:
        notes.append(f"levels of {spec.level_sizes} codes cut to {level_sizes}: there are only {len(vectors_ND)} items")
    if zero := int((~vectors_ND.any(axis=1)).sum()):
        notes.append(f"{zero} of {len(vectors_ND)} items have no content at all (their vector is zero)")
    quantizer = make_quantizer(spec, level_sizes).fit(vectors_ND)
    quantizer_codes_NQ = quantizer.encode(vectors_ND)
    if spec.unique == "append_code":
        unique = append_code(quantizer_codes_NQ, level_sizes)
    else:
        unique = nearest_free(quantizer_codes_NQ, level_sizes, quantizer.latent(vectors_ND), quantizer.codebooks)
    quality = quality_figures(
        vectors_ND, quantizer.decode(quantizer_codes_NQ), quantizer_codes_NQ, level_sizes, unique, notes
    )
    return SemanticIds(
        item_ids=item_ids.alias("item_id"),
        codes_NL=unique.codes_NL,
        quantizer_codes_NQ=quantizer_codes_NQ,
        level_sizes=unique.level_sizes,
        quality=quality,
        config={
            "method": spec.method,
            "quantizer": quantizer.config(),
            "unique": spec.unique,
            "inputs": {"sha256": _sha256(vectors_ND, item_ids), **(source or {})},
        },
        quantizer_state=quantizer.state_dict(),
    )


def make_quantizer(spec: QuantizerSpec, level_sizes: list[int]) -> Quantizer:
    """An unfitted quantizer as the spec describes it, with these level sizes."""
    settings = spec.rq_vae if spec.method == "rq_vae" else spec.rq_kmeans
    return _quantizer_class(spec.method)(level_sizes, seed=spec.seed, **settings.model_dump())


def load_quantizer(semantic_ids: SemanticIds) -> Quantizer:
    """The fitted quantizer inside an artefact; TokenizerError when its settings or arrays do not fit this version."""
    method, settings = semantic_ids.config.get("method"), semantic_ids.config.get("quantizer")
    if method not in ("rq_kmeans", "rq_vae") or not isinstance(settings, dict):
        raise TokenizerError(f"semantic IDs: no quantizer of a known method in their config (method: {method!r}).")
    try:
        return _quantizer_class(method).load(settings, semantic_ids.quantizer_state)
    except TypeError as error:  # a setting that this version does not have, or one it needs
        raise TokenizerError(f"semantic IDs: settings of the quantizer do not fit this version ({error}).") from error


def _quantizer_class(method: str) -> "type[RQKMeans] | type[RQVAE]":
    if method == "rq_vae":
        from tokenizer.quantizers.rq_vae import RQVAE

        return RQVAE
    from tokenizer.quantizers.rq_kmeans import RQKMeans

    return RQKMeans


def _sha256(vectors_ND: np.ndarray, item_ids: pl.Series) -> str:
    digest = hashlib.sha256(repr(vectors_ND.shape).encode())
    digest.update(vectors_ND.data)
    digest.update("\n".join(item_ids.cast(pl.String).to_list()).encode())
    return digest.hexdigest()
