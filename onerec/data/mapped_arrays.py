"""Arrays that may be larger than memory: files that the operating system maps into memory and pages in and out."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from onerec.errors import UserError

PIECE_VALUES = 1 << 21  # values processed at a time


def new_array(folder: Path | None, name: str, length: int, dtype: DTypeLike) -> np.ndarray:
    """An array of zeros to be filled: the mapped file `NAME.npy` in the folder, or plain memory if `folder` is None.

    Raises:
        UserError: the disk has no room for the file.
    """
    if folder is None:
        return np.zeros(length, dtype)
    path = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
    try:  # the new file is sparse: without this, a full disk would kill the process later, without a message
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise UserError(
            f"{path}: no room for {array.nbytes:,} bytes ({error.strerror}); free some disk space"
        ) from error
    return np.asarray(array)


def open_array(folder: Path, name: str) -> np.ndarray:
    """An array that `new_array` made in a folder, mapped into memory, read-only."""
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))


def pieces_of(values: np.ndarray) -> Iterator[slice]:
    """Slices of a long array, `PIECE_VALUES` values each."""
    return (slice(begin, begin + PIECE_VALUES) for begin in range(0, len(values), PIECE_VALUES))


def gather_ranges(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Copy `values[start : start + length]` of every range into `out`, back to back, one piece at a time."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    for piece in pieces_of(out):
        places = np.arange(*piece.indices(len(out)))
        ranges = np.searchsorted(offsets, places, side="right") - 1
        out[places] = values[starts[ranges] + places - offsets[ranges]]
