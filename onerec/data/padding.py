"""Ragged rows as one padded table. Histories and windows of different lengths become rectangles here and nowhere else."""

import numpy as np


def padded_places(
    starts_B: np.ndarray, lengths_B: np.ndarray, *, step: int = 1, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the elements of B ragged rows in a flat array.

    Args:
        starts_B: where each row begins in the flat array.
        lengths_B: number of elements in each row, 0 allowed.
        step: 1 reads forward from the start, -1 backward.
        width: T, at least the longest length. None: the longest length, at least 1.

    Returns:
        positions, int64 `[B, T]`, 0 in padding; and a mask, boolean `[B, T]`, false in padding.
    """
    steps_T = np.arange(max(int(lengths_B.max(initial=0)), 1) if width is None else width)
    inside_BT = steps_T < lengths_B[:, None]
    return np.where(inside_BT, starts_B[:, None] + step * steps_T, 0), inside_BT


def batches_of_like_length(lengths_C: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Row numbers in batches, short rows first, so that batches need little padding. Equal lengths keep their order."""
    order_C = np.argsort(lengths_C, kind="stable")
    return [order_C[begin : begin + batch_size] for begin in range(0, len(order_C), batch_size)]
