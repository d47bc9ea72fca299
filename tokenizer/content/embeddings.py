"""Embeddings of a pretrained model as a block of item content: centred, reduced, zero for items without content."""

from pathlib import Path
from typing import Protocol, Self

import numpy as np
import polars as pl

from tokenizer.common.vectors import principal_directions
from tokenizer.content.fitted_state import fitted_array, fitted_strings, strings_to_array
from tokenizer.content.models import PretrainedModel
from tokenizer.errors import TokenizerError


class EmbeddingSource(Protocol):
    """Columns of the items and the pretrained model that reads them."""

    @property
    def encoder(self) -> PretrainedModel:
        """The model."""

    def present(self, items: pl.DataFrame) -> np.ndarray:
        """Rows that have content, bool [N]."""

    def vectors(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Embeddings of these rows, which all have content, float32 [M,E]."""


class EmbeddingBlock:
    """Learns the mean and the main directions of embeddings; the model itself is not trained."""

    def __init__(self, source: EmbeddingSource, columns: list[str], dimensions: int, seed: int) -> None:
        self.source, self.columns, self.dimensions, self.seed = source, columns, dimensions, seed

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn from a table; return the vectors of its rows, float32 [N,W]. TokenizerError when every row is empty."""
        present_N = self.source.present(items)
        if not present_N.any():
            raise TokenizerError(
                f"items: every row is empty (columns: {', '.join(self.columns)}); name other columns, or none of this kind."
            )
        vectors_ME = self.source.vectors(items, folder, np.flatnonzero(present_N))
        # embeddings of a pretrained encoder share a large common direction, which hides the distances between items
        mean_E = vectors_ME.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.mean_E = mean_E if len(vectors_ME) > 1 else np.zeros_like(mean_E)
        self.directions_EW = principal_directions(vectors_ME - self.mean_E, self.dimensions, self.seed)
        self.fitted_with = self.source.encoder.identity
        return self._project(vectors_ME, present_N)

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Encode these rows of a table with the same columns, float32 [M,W].

        Raises TokenizerError when the model is not the one that `fit` used.
        """
        present_N = self.source.present(items.select(self.columns)[rows])
        if not present_N.any():
            return np.zeros((len(rows), self.directions_EW.shape[1]), dtype=np.float32)
        if self.source.encoder.identity != self.fitted_with:
            raise TokenizerError(
                f"model {self.source.encoder.model!r} is not the one that this tokenizer was fitted with (its files differ); "
                "restore that model, or tokenize again."
            )
        return self._project(self.source.vectors(items, folder, rows[present_N]), present_N)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted arrays by name, and the identity of the model."""
        model = strings_to_array([self.fitted_with])
        return {"mean": self.mean_E, "directions": self.directions_EW, "model": model}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        """Restore the arrays of `state_dict`; TokenizerError names one that is missing or has a wrong shape."""
        self.mean_E, self.directions_EW = fitted_array(state, "mean", 1), fitted_array(state, "directions", 2)
        self.fitted_with = "".join(fitted_strings(state, "model"))
        if len(self.mean_E) != len(self.directions_EW):
            raise TokenizerError("fitted content encoder: 'mean' and 'directions' differ in length; tokenize again.")
        return self

    def _project(self, vectors_ME: np.ndarray, present_N: np.ndarray) -> np.ndarray:
        projected_NW = np.zeros((len(present_N), self.directions_EW.shape[1]), dtype=np.float32)
        projected_NW[present_N] = (vectors_ME - self.mean_E) @ self.directions_EW
        return projected_NW
