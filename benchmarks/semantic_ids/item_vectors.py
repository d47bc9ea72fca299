"""Item vectors that several cells of a study need: fitted once, then kept beside the cells."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onerec.files import write_file

if TYPE_CHECKING:
    from tokenizer.item_encoder import ItemTable, TokenizerSection


def fitted_vectors(
    path: Path, items: "ItemTable", training: tuple[np.ndarray, np.ndarray], section: "TokenizerSection", seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the items, and vectors of behaviour, from `path` or by a new item encoder.

    Args:
        path: an `.npz` file.
        items: with what describes them.
        training: training events as items and offsets.
        section: config of the tokenizer.
        seed: of everything random.
    """
    from tokenizer.item_encoder import ItemEncoder

    if not path.exists():
        encoder = ItemEncoder().fit(items, training, section, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda temporary: _save(temporary, encoder.vectors_ND, encoder.behaviour_ND))
    with np.load(path) as stored:
        return stored["vectors"], stored["behaviour"]


def _save(path: Path, vectors_ND: np.ndarray, behaviour_ND: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, vectors=vectors_ND, behaviour=behaviour_ND)
