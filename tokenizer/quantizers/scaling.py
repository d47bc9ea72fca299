"""Shift and scale that quantizers apply first, so that float32 distances stay exact far from the origin."""

from dataclasses import dataclass
from typing import Self

import numpy as np

ROWS = 1 << 11  # rows squared at once


@dataclass(frozen=True)
class Scaling:
    """One mean per column and one root mean square for all columns, so that distances keep their proportions.

    mean_D: float32 [D]. scale: float32 [1]; 1 if all rows are equal.
    """

    mean_D: np.ndarray
    scale: np.ndarray

    @classmethod
    def blank(cls, width: int) -> Self:
        """A scaling of `width` columns that changes nothing."""
        return cls(np.zeros(width, dtype=np.float32), np.ones(1, dtype=np.float32))

    @classmethod
    def of(cls, x_ND: np.ndarray) -> Self:
        """The scaling that gives these rows mean zero and mean square one."""
        mean_D = x_ND.mean(axis=0, dtype=np.float64)
        squares = 0.0
        for start in range(0, len(x_ND), ROWS):
            centred_RD = x_ND[start : start + ROWS] - mean_D
            squares += float(np.vdot(centred_RD, centred_RD))
        scale = float(np.sqrt(squares / x_ND.size))
        return cls(mean_D.astype(np.float32), np.asarray([scale if scale > 0 else 1.0], dtype=np.float32))

    def arrays(self) -> dict[str, np.ndarray]:
        """Both arrays by name, as a quantizer saves them."""
        return {"mean": self.mean_D, "scale": self.scale}

    def apply(self, x_ND: np.ndarray) -> np.ndarray:
        """Shifted and scaled rows, float32 [N,D]."""
        scaled_ND = np.subtract(x_ND, self.mean_D, dtype=np.float32)
        scaled_ND /= self.scale
        return scaled_ND

    def undo(self, scaled_ND: np.ndarray) -> np.ndarray:
        """Undo `apply`, float32 [N,D]."""
        return np.asarray(scaled_ND * self.scale + self.mean_D, dtype=np.float32)
