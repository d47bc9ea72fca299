"""The user's own vectors as a block of item content."""

from pathlib import Path

import numpy as np
import polars as pl

from tokenizer.common.vectors import read_vectors
from tokenizer.content.fitted_state import fitted_array
from tokenizer.errors import TokenizerError


class VectorFileBlock:
    """A file with one row per item, in the order of the table, centred on the mean of the fitted rows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn the mean; return the centred rows, float32 [N,D]."""
        vectors_ND = read_vectors(folder / self.name, len(items))
        # a direction that all embeddings share does not distinguish items; a single item keeps its vector
        mean_D = vectors_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.mean_D = mean_D if len(items) > 1 else np.zeros_like(mean_D)
        return np.asarray(vectors_ND - self.mean_D)

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """These rows of the file, centred, float32 [M,D]; TokenizerError when the file's width has changed."""
        vectors_ND = read_vectors(folder / self.name, len(items))
        if vectors_ND.shape[1] != len(self.mean_D):
            raise TokenizerError(
                f"{folder / self.name}: {vectors_ND.shape[1]} columns, but the encoder was fitted on {len(self.mean_D)}; "
                "use vectors of the same model, or tokenize again."
            )
        return np.asarray(vectors_ND[rows] - self.mean_D)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted mean."""
        return {"mean": self.mean_D}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the array of `state_dict`; TokenizerError when it is missing or has a wrong shape."""
        self.mean_D = fitted_array(state, "mean", 1)
