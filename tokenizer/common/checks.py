"""Checks of arrays. Each returns the array in its standard form or raises TokenizerError."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenizer.errors import TokenizerError

if TYPE_CHECKING:
    import polars as pl

CHECKED_ELEMENTS = 1 << 22  # checked at once, so that the check of a large array needs little memory


def check_vectors(
    vectors: np.ndarray,
    what: str = "item vectors",
    width: int | None = None,
    names: "Sequence[Any] | pl.Series | None" = None,
) -> np.ndarray:
    """Return `vectors` as a C-ordered float32 array [N,D].

    Raises TokenizerError when the array is not two-dimensional, is empty, is not numeric, is not `width` columns wide, or
    holds NaN or infinity. For NaN or infinity the message gives the first such row, counted from 0, and its entry in `names`.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise TokenizerError(f"{what}: expected one row per item and at least one column, got shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
        raise TokenizerError(f"{what}: expected real numbers, got the type {array.dtype}.")
    if width is not None and array.shape[1] != width:
        raise TokenizerError(f"{what}: {array.shape[1]} columns, but the quantizer was fitted on {width}.")
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite here and is reported below
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad_rows = _rows_not_finite(array)
    if bad_rows.size:
        item = "" if names is None else f" (item {names[int(bad_rows[0])]!r})"
        raise TokenizerError(
            f"{what}: row {bad_rows[0]}{item} holds NaN or infinity ({bad_rows.size} such rows of {len(array)}); "
            "replace the missing values, or drop those items."
        )
    return array


def _rows_not_finite(array_ND: np.ndarray) -> np.ndarray:
    step = max(1, CHECKED_ELEMENTS // array_ND.shape[1])
    parts = (array_ND[start : start + step] for start in range(0, len(array_ND), step))
    return np.flatnonzero(~np.concatenate([np.isfinite(part).all(axis=1) for part in parts]))


def check_level_sizes(level_sizes: list[int]) -> list[int]:
    """Return the sizes as plain ints; TokenizerError unless there is at least one level and every size is positive."""
    if not level_sizes or any(int(size) != size or size < 1 for size in level_sizes):
        raise TokenizerError(f"level_sizes: expected one or more whole numbers above zero, got {list(level_sizes)}.")
    return [int(size) for size in level_sizes]


def check_codes(codes_NL: np.ndarray, level_sizes: list[int]) -> np.ndarray:
    """Return `codes_NL` as int32 [N,L]; TokenizerError when a code is not in 0..size-1 of its level."""
    codes = np.asarray(codes_NL)
    if codes.ndim != 2 or codes.shape[1] != len(level_sizes) or not np.issubdtype(codes.dtype, np.integer):
        raise TokenizerError(
            f"codes: expected whole numbers of shape [items, {len(level_sizes)}], got {codes.dtype} {codes.shape}."
        )
    outside = (codes < 0) | (codes >= np.asarray(level_sizes))
    if outside.any():
        row, level = np.argwhere(outside)[0]
        raise TokenizerError(
            f"codes: row {row} has code {codes[row, level]} on level {level + 1}, "
            f"whose codes run from 0 to {level_sizes[level] - 1}."
        )
    return codes.astype(np.int32)


def fill_arrays(title: str, blanks: Mapping[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
    """Copy saved arrays into those of the same names; TokenizerError when one is missing or has another shape."""
    for name, blank in blanks.items():
        if name not in state or state[name].shape != blank.shape:
            found = state[name].shape if name in state else "nothing"
            raise TokenizerError(
                f"{title}: array {name!r} should have shape {blank.shape}, found {found}; tokenize again."
            )
        blank[...] = state[name]
