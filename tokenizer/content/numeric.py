"""Vectors of numeric columns: each number becomes a point on a half circle."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy import special

from tokenizer.content.fitted_state import fitted_array
from tokenizer.errors import TokenizerError

HEAVY_TAIL = 2.0  # skewness above which log(1+x) replaces a non-negative column


class NumericBlock:
    """Two or three columns per number: a point on the half circle, and whether the number is missing.

    A number is standardised (after log(1+x) for a heavy tail), and the normal distribution function turns it into an angle.
    Every point has length one, so normalising rows keeps the number; a single standardised number would keep only its sign.
    A missing number is (0, 0, 1). Columns that were constant in `fit` are left out.
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def fit(self, items: pl.DataFrame, folder: Path) -> np.ndarray:
        """Learn location and scale of every column; return the vectors of these rows, float32 [N,D]."""
        scales = []
        for name in self.columns:
            value_N = _numbers(items, name)
            known_M = value_N[np.isfinite(value_N)]
            some_known = len(known_M) > 0
            some_missing = 0 < len(known_M) < len(value_N)
            heavy = bool(some_known and known_M.min() >= 0 and _skewness(known_M) > HEAVY_TAIL)
            location, scale = _location_and_scale(np.log1p(known_M) if heavy else known_M) if some_known else (0.0, 0.0)
            scales.append((some_missing, heavy, location, scale))
        self.scales_C4 = np.asarray(scales, dtype=np.float64)
        return self.encode(items, folder, np.arange(len(items)))

    def encode(self, items: pl.DataFrame, folder: Path, rows: np.ndarray) -> np.ndarray:
        """Encode these rows of a table with the same columns, float32 [M,D]."""
        blocks = []
        for name, (some_missing, heavy, location, scale) in zip(self.columns, self.scales_C4, strict=True):
            value_N = _numbers(items, name)[rows]
            missing_N = ~np.isfinite(value_N)
            if some_missing:
                blocks.append(missing_N.astype(np.float64)[:, None])
            if scale == 0:
                continue
            value_N = np.where(missing_N, 0.0, value_N)
            # all fitted values of a heavy-tailed column were at least 0, so a lower value counts as 0
            value_N = np.log1p(np.maximum(value_N, 0)) if heavy else value_N
            with np.errstate(over="ignore"):  # an infinite distance from the mean is an end of the half circle
                angle_N = np.pi * special.ndtr((value_N - location) / scale)
            blocks.append(np.column_stack([np.cos(angle_N), np.sin(angle_N)]) * ~missing_N[:, None])
        return np.hstack(blocks).astype(np.float32) if blocks else np.zeros((len(rows), 1), dtype=np.float32)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Four numbers per column: whether values were missing, whether the logarithm is used, mean, standard deviation."""
        return {"scales": self.scales_C4}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the arrays of `state_dict`; TokenizerError names one that is missing or has a wrong shape."""
        self.scales_C4 = fitted_array(state, "scales", 2)
        if self.scales_C4.shape != (len(self.columns), 4):
            raise TokenizerError("fitted content encoder: the array 'scales' has a wrong shape; tokenize again.")


def _numbers(items: pl.DataFrame, name: str) -> np.ndarray:
    column = items[name]
    if not column.dtype.is_numeric() and column.dtype not in (pl.Boolean, pl.Null):
        raise TokenizerError(
            f"items: column {name!r} is listed as numeric but holds {column.dtype}; "
            "convert it, or list it as text or categorical."
        )
    return column.cast(pl.Float64).to_numpy(writable=True)


def _location_and_scale(value_M: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, scaled by the largest value, because squares of huge values overflow."""
    peak = np.abs(value_M).max()
    share_M = value_M / peak if peak > 0 else value_M
    return float(share_M.mean() * peak), float(share_M.std() * peak)


def _skewness(value_M: np.ndarray) -> float:
    location, scale = _location_and_scale(value_M)
    return float((((value_M - location) / scale) ** 3).mean()) if scale > 0 else 0.0
