"""What the tokenizer is given: one vector per item, from its content and from training behaviour."""

from typing import Any

import numpy as np

from onerec.config import TokenizerSection
from onerec.data.contract import Dataset
from tokenizer.collaborative import collaborative_vectors, fill_cold
from tokenizer.content import ContentSpec, content_vectors, join_vectors


def item_vectors(
    dataset: Dataset, training: tuple[np.ndarray, np.ndarray], section: TokenizerSection, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Content vectors joined with a collaborative embedding.

    Items without any column that describes them are embedded by behaviour alone.

    Args:
        dataset: its items, and the columns that `dataset.yaml` names for them.
        training: items and offsets of the training sequences; later events must not be in them.
        section: how to embed.
        seed: of the truncated SVDs.

    Returns:
        float32 `[N, D]` and a note on what went into it, kept with the semantic IDs.
    """
    columns = dataset.spec.items
    named = [*columns.text, *columns.categorical, *columns.numeric, *columns.vectors]
    parts: list[tuple[np.ndarray, float]] = []
    source: dict[str, Any] = {"dataset": dataset.spec.name, "columns": named}
    if named:
        spec = ContentSpec(
            text=columns.text,
            categorical=columns.categorical,
            numeric=columns.numeric,
            vectors=columns.vectors,
            seed=seed,
            **section.content.model_dump(),
        )
        parts.append((content_vectors(dataset.items, spec, dataset.folder), 1.0))
    if section.collaborative.weight > 0 or not named:
        settings = section.collaborative
        vectors_ND = collaborative_vectors(
            *training, len(dataset.items), dimensions=settings.dimensions, window=settings.window, seed=seed
        )
        if named:
            vectors_ND = fill_cold(vectors_ND, parts[0][0], np.asarray(vectors_ND.any(axis=1)))
        parts.append((vectors_ND, settings.weight if named else 1.0))
        source["collaborative"] = settings.model_dump()
    return join_vectors(parts), source
