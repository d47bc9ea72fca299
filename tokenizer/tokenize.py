"""From item vectors to the artefact: fit a quantizer, encode, make the IDs unique, measure."""

import hashlib
from typing import Any

import numpy as np
import polars as pl

from tokenizer.checks import check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quality import quality_figures
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.spec import QuantizerSpec, make_quantizer, restore_quantizer
from tokenizer.semantic_ids import SemanticIds
from tokenizer.unique import append_code, nearest_free


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


def load_quantizer(semantic_ids: SemanticIds) -> Quantizer:
    """The fitted quantizer inside an artefact; TokenizerError when its settings or arrays do not fit this version."""
    return restore_quantizer(semantic_ids.config, semantic_ids.quantizer_state)


def _sha256(vectors_ND: np.ndarray, item_ids: pl.Series) -> str:
    digest = hashlib.sha256(repr(vectors_ND.shape).encode())
    digest.update(vectors_ND.data)
    digest.update("\n".join(item_ids.cast(pl.String).to_list()).encode())
    return digest.hexdigest()
