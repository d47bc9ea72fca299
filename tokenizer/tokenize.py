"""From item vectors to semantic IDs: fit a quantizer, encode, make the IDs unique, measure their quality."""

import hashlib
from typing import Any

import numpy as np
import polars as pl

from tokenizer.common.checks import check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quality.figures import quality_figures
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.residual import sum_of_rows
from tokenizer.quantizers.spec import QuantizerSpec, Uniqueness, make_quantizer, restore_quantizer
from tokenizer.semantic_ids import SemanticIds
from tokenizer.unique.collisions import UniqueCodes, append_code, nearest_free, sinkhorn_last_level


def tokenize_items(
    vectors_ND: np.ndarray,
    item_ids: pl.Series,
    spec: QuantizerSpec,
    *,
    behaviour_ND: np.ndarray | None = None,
    neighbours_P2: np.ndarray | None = None,
    source: dict[str, Any] | None = None,
) -> SemanticIds:
    """Give every item a unique semantic ID and measure the quality of the IDs.

    vectors_ND: one row per item id. A level with more codes than items is reduced to the number of items, with a note in
    `quality["notes"]`. behaviour_ND: one row per item from training behaviour, zero without behaviour; only RQ-VAE with
    LETTER's behaviour term uses it. neighbours_P2: pairs of rows with similar behaviour that no part of the tokenizer has
    learnt from; the quality then includes how often the IDs keep them together. source: plain JSON values about the origin
    of the vectors, saved in the config of the IDs beside a SHA-256 of the vectors and ids. Raises TokenizerError for unusable
    vectors (naming the item) or too few possible IDs.
    """
    if np.ndim(vectors_ND) == 2 and len(vectors_ND) != len(item_ids):
        raise TokenizerError(f"{len(vectors_ND)} vectors for {len(item_ids)} item ids; give one vector per item.")
    vectors_ND = check_vectors(vectors_ND, names=item_ids)
    notes = []
    level_sizes = [min(size, len(vectors_ND)) for size in spec.level_sizes]
    if level_sizes != spec.level_sizes:
        notes.append(
            f"levels of {spec.level_sizes} codes reduced to {level_sizes}: there are only {len(vectors_ND)} items"
        )
    if zero := int((~vectors_ND.any(axis=1)).sum()):
        notes.append(f"{zero} of {len(vectors_ND)} items have no content at all (their vector is zero)")
    quantizer = make_quantizer(spec, level_sizes)
    if spec.method == "rq_vae":
        quantizer.fit(vectors_ND, behaviour_ND)  # type: ignore[call-arg]  # the only quantizer that uses behaviour
    else:
        quantizer.fit(vectors_ND)
    quantizer_codes_NQ, latent_NW = quantizer.encode(vectors_ND), quantizer.latent(vectors_ND)
    unique = make_unique(spec.unique, quantizer_codes_NQ, level_sizes, latent_NW, quantizer.codebooks)
    quality = quality_figures(
        vectors_ND,
        quantizer.decode(quantizer_codes_NQ),
        quantizer_codes_NQ,
        level_sizes,
        unique,
        latent_NW=latent_NW,
        codebooks=quantizer.codebooks,
        notes=notes,
        neighbours_P2=neighbours_P2,
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


def make_unique(
    way: Uniqueness, codes_NL: np.ndarray, level_sizes: list[int], latent_NW: np.ndarray, codebooks: list[np.ndarray]
) -> UniqueCodes:
    """Make IDs unique by the method of a spec; see `tokenizer.unique.collisions`."""
    if way == "append_code":
        return append_code(codes_NL, level_sizes)
    if way == "sinkhorn":
        return sinkhorn_last_level(codes_NL, level_sizes, latent_NW, codebooks)
    return nearest_free(codes_NL, level_sizes, latent_NW, codebooks)


def load_quantizer(semantic_ids: SemanticIds) -> Quantizer:
    """The fitted quantizer of these IDs; TokenizerError when its settings or arrays do not fit this version."""
    return restore_quantizer(semantic_ids.config, semantic_ids.quantizer_state)


def coded_vectors(semantic_ids: SemanticIds) -> np.ndarray:
    """A vector per item from its codes alone: the sum of its codebook rows, float32 [N,W].

    For autoencoders, these are vectors of the latent space. Items with equal codes before collisions were resolved have equal
    vectors. TokenizerError when the quantizer does not fit this version.
    """
    return sum_of_rows(semantic_ids.quantizer_codes_NQ, load_quantizer(semantic_ids).codebooks)


def _sha256(vectors_ND: np.ndarray, item_ids: pl.Series) -> str:
    digest = hashlib.sha256(repr(vectors_ND.shape).encode())
    digest.update(vectors_ND.data)
    digest.update("\n".join(item_ids.cast(pl.String).to_list()).encode())
    return digest.hexdigest()
