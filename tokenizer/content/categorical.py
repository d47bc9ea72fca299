"""Vectors of categorical columns: multi-hot over the fitted values, rare values weighted up, then truncated SVD."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from tokenizer.common.vectors import principal_directions
from tokenizer.content.fitted_state import fitted_array, fitted_strings, strings_to_array
from tokenizer.content.text import MISSING_WORDS
from tokenizer.errors import TokenizerError

LONGEST_CELL = 10_000  # more ids than this in one cell mean a broken column


class CategoricalBlock:
    """All categorical columns of a table as one block.

    A cell may hold several ids, separated by spaces, commas or pipes. Values that only one item has, and values that every
    item has, do not show which items are alike, so they are left out. `encode` ignores values that `fit` did not see.
    """

    def __init__(self, columns: list[str], dimensions: int, seed: int) -> None:
        self.columns, self.dimensions, self.seed = columns, dimensions, seed

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn values, weights and the directions of the SVD; return the vectors of these rows, float32 [N,W]."""
        self.values: list[list[str]] = []
        self.weights: list[np.ndarray] = []
        for name in self.columns:
            table = _cell_values(items[name], name)
            counts = table.group_by("value").len("items").filter((pl.col("items") > 1) & (pl.col("items") < len(items)))
            counts = counts.sort("value")
            self.values.append(counts["value"].to_list())
            weight_V = np.log((1 + len(items)) / (1 + counts["items"].to_numpy())) + 1
            self.weights.append(weight_V.astype(np.float32))
        matrix_NV = self._multi_hot(items)
        self.directions_VW = principal_directions(matrix_NV, self.dimensions, self.seed)
        return np.asarray(matrix_NV @ self.directions_VW, dtype=np.float32)

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Encode these rows of a table with the same columns, float32 [M,W]."""
        return np.asarray(self._multi_hot(items.select(self.columns)[rows]) @ self.directions_VW, dtype=np.float32)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted arrays by name."""
        state = {"directions": self.directions_VW}
        for number, (values, weights) in enumerate(zip(self.values, self.weights, strict=True)):
            state |= {f"{number}.values": strings_to_array(values), f"{number}.weights": weights}
        return state

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the arrays of `state_dict`; TokenizerError names one that is missing or has a wrong shape."""
        self.values = [fitted_strings(state, f"{number}.values") for number in range(len(self.columns))]
        self.weights = [fitted_array(state, f"{number}.weights", 1) for number in range(len(self.columns))]
        self.directions_VW = fitted_array(state, "directions", 2)
        lengths = [len(values) for values in self.values]
        if lengths != [len(weights) for weights in self.weights] or sum(lengths) != len(self.directions_VW):
            raise TokenizerError(
                "fitted content encoder: 'values' and 'weights' of a category differ in length; tokenize again."
            )

    def _multi_hot(self, items: pl.DataFrame) -> sparse.csr_matrix:
        """Weights of the values that each item has, [N, values of all columns]; each column's part has length one."""
        parts = []
        for name, values, weight_V in zip(self.columns, self.values, self.weights, strict=True):
            table = _cell_values(items[name], name)
            known = pl.DataFrame({"value": pl.Series(values, dtype=pl.String), "column": np.arange(len(values))})
            table = table.join(known, on="value", how="inner", maintain_order="left")
            column = table["column"].to_numpy()
            matrix = sparse.csr_matrix(
                (weight_V[column].astype(np.float64), (table["row"].to_numpy(), column)),
                shape=(len(items), len(values)),
            )
            length_N = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
            parts.append(sparse.diags(1 / np.where(length_N > 0, length_N, 1)) @ matrix)
        return sparse.csr_matrix(sparse.hstack(parts, format="csr"))


def _cell_values(column: pl.Series, name: str) -> pl.DataFrame:
    """One line per row and value, each pair once: columns `row` and `value` (text)."""
    if column.dtype.is_nested():
        raise TokenizerError(
            f"items: column {name!r} holds {column.dtype}; write several ids into one text, such as '3 17'."
        )
    text = column.cast(pl.String)
    if column.dtype.is_float():  # 9.0 and 9 are the same id
        whole = column.fill_nan(None).cast(pl.Int64, strict=False)
        text = pl.select(
            pl.when(whole.cast(column.dtype) == column).then(whole.cast(pl.String)).otherwise(text)
        ).to_series()
    cells = text.fill_null("").str.replace_all(r"[\s,|]+", " ").str.strip_chars(" ").str.split(" ")
    if (cells.list.len() > LONGEST_CELL).any():
        raise TokenizerError(
            f"items: column {name!r} has a cell of over {LONGEST_CELL} ids; is it a categorical column?"
        )
    table = pl.DataFrame({"row": np.arange(len(column)), "value": cells}).explode("value").unique(maintain_order=True)
    return table.filter(~pl.col("value").str.to_lowercase().is_in(MISSING_WORDS))
