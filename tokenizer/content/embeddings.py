"""Embeddings of a pretrained model as a block of item content: centred, reduced, zero where an item has nothing."""

from pathlib import Path
from typing import Protocol, Self

import numpy as np
import polars as pl

from tokenizer.common.vectors import principal_directions
from tokenizer.content.fitted_state import fitted_array, fitted_strings, strings_to_array
from tokenizer.errors import TokenizerError


class EmbeddingSource(Protocol):
    """What a pretrained model says of the items that give it something to look at."""

    @property
    def identity(self) -> str:
        """Which weights these are, see `tokenizer.content.models.model_identity`."""

    @property
    def model(self) -> str:
        """What the user calls the model."""

    def present(self, items: pl.DataFrame) -> np.ndarray:
        """Which rows have something, bool [N]."""

    def vectors(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Embeddings of these rows, all present, float32 [M,E]."""


class EmbeddingBlock:
    """Learns the centre and the main directions of embeddings; the model itself stays as it is."""

    def __init__(self, source: EmbeddingSource, columns: list[str], dimensions: int, seed: int) -> None:
        self.source, self.columns, self.dimensions, self.seed = source, columns, dimensions, seed

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn from a table, and return the fitted rows, float32 [N,W]. TokenizerError when every row is empty."""
        present_N = self.source.present(items)
        if not present_N.any():
            raise TokenizerError(
                f"items: every row is empty (columns: {', '.join(self.columns)}); name other columns, or none."
            )
        vectors_ME = self.source.vectors(items, folder, np.flatnonzero(present_N))
        # pretrained encoders share a large common direction: without it the distances between items show
        mean_E = vectors_ME.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.mean_E = mean_E if len(vectors_ME) > 1 else np.zeros_like(mean_E)
        self.directions_EW = principal_directions(vectors_ME - self.mean_E, self.dimensions, self.seed)
        self.fitted_with = self.source.identity
        return self._project(vectors_ME, present_N)

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """These rows of any table with these columns around the fitted centre, float32 [N,W].

        Raises TokenizerError when the model is not the one of `fit`.
        """
        present_N = self.source.present(items.select(self.columns)[rows])
        if not present_N.any():
            return np.zeros((len(rows), self.directions_EW.shape[1]), dtype=np.float32)
        if self.source.identity != self.fitted_with:
            raise TokenizerError(
                f"model {self.source.model!r} is not the one that this tokenizer was fitted with (its files differ); "
                "bring that model back, or tokenize again."
            )
        return self._project(self.source.vectors(items, folder, rows[present_N]), present_N)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted arrays by name, and which weights made them."""
        model = strings_to_array([self.fitted_with])
        return {"mean": self.mean_E, "directions": self.directions_EW, "model": model}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        """Take up arrays of `state_dict`; TokenizerError names one that is missing or misshaped."""
        self.mean_E, self.directions_EW = fitted_array(state, "mean", 1), fitted_array(state, "directions", 2)
        self.fitted_with = "".join(fitted_strings(state, "model"))
        if len(self.mean_E) != len(self.directions_EW):
            raise TokenizerError("fitted content encoder: 'mean' and 'directions' do not fit; tokenize again.")
        return self

    def _project(self, vectors_ME: np.ndarray, present_N: np.ndarray) -> np.ndarray:
        projected_NW = np.zeros((len(present_N), self.directions_EW.shape[1]), dtype=np.float32)
        projected_NW[present_N] = (vectors_ME - self.mean_E) @ self.directions_EW
        return projected_NW
