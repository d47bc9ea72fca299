"""Item vectors that several cells of a study need: fitted once, then kept beside the cells."""

from pathlib import Path
from typing import Any

import numpy as np

from onerec.files import write_file


def fitted_vectors(path: Path, dataset: Any, training: Any, section: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the items, and vectors of behaviour, from `path` or by a new item encoder.

    Args:
        path: an `.npz` file.
        dataset: what describes the items.
        training: training events as items and offsets.
        section: config of the tokenizer.
        seed: of everything random.
    """
    from tokenizer.item_encoder import ItemEncoder

    if not path.exists():
        encoder = ItemEncoder().fit(dataset, training, section, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda temporary: _save(temporary, encoder.vectors_ND, encoder.behaviour_ND))
    with np.load(path) as stored:
        return stored["vectors"], stored["behaviour"]


def _save(path: Path, vectors_ND: np.ndarray, behaviour_ND: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, vectors=vectors_ND, behaviour=behaviour_ND)
