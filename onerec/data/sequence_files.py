"""Sequences as a folder of files. A run writes them once and maps them into memory from then on."""

from pathlib import Path

import numpy as np
import polars as pl

from onerec.data.mapped_arrays import open_array
from onerec.data.split import Sequences, training_sequences
from onerec.files import write_file

USERS_FILE = "users.parquet"
OFFSETS_FILE = "offsets.npz"


def complete_folder(sequences: Sequences, folder: Path) -> None:
    """Add users, offsets and the training part to a folder that holds the arrays of `split_sequences`."""
    _, training_offsets = training_sequences(sequences, folder)
    users = sequences.user_ids.alias("user").to_frame()
    write_file(folder / USERS_FILE, lambda path: users.write_parquet(path, compression="zstd"))
    with (folder / OFFSETS_FILE).open("wb") as file:
        np.savez(file, all=sequences.offsets, training=training_offsets)


def open_sequences(folder: Path) -> tuple[Sequences, tuple[np.ndarray, np.ndarray]]:
    """The sequences of a complete folder, and their training part as from `training_sequences`.

    Users and offsets are read; arrays that grow with the events are mapped. Sequences without order are never stored.
    """
    with np.load(folder / OFFSETS_FILE) as offsets:
        every, training = offsets["all"], offsets["training"]
    users = pl.read_parquet(folder / USERS_FILE)["user"]
    item_index, part, rows = (open_array(folder, name) for name in ("item_index", "part", "event_rows"))
    return Sequences(users, item_index, every, part, True, rows), (open_array(folder, "training_items"), training)
