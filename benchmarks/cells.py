"""Cells of long tables: each is a folder that one process fills and that is complete when it holds `cell.json`.

A table is made of whatever cells are finished. The same command goes on where it stopped, and processes started with it share
what is left.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from onerec.files import write_file, write_json

CONFIGS = Path(__file__).parent.parent / "configs"
CELL_FILE, CLAIM_FILE = "cell.json", ".claim"
SAMPLES, BOOTSTRAP_SEED = 1000, 17  # of the bootstraps of all tables


def data_folder(parser: argparse.ArgumentParser) -> Path:
    """Where the datasets lie; the command line's error where nobody says so."""
    data = os.environ.get("ONEREC_DATA")
    if not data:
        parser.error("the environment variable ONEREC_DATA must name the folder that holds the datasets")
    return Path(data)


def claim(folder: Path) -> bool:
    """Take a cell for this process: False when it is done, or a living process works on it."""
    folder.mkdir(parents=True, exist_ok=True)
    if finished(folder):
        return False
    mine = folder / f"{CLAIM_FILE}-{os.getpid()}"
    mine.write_text(str(os.getpid()), encoding="utf-8")
    try:
        os.link(mine, folder / CLAIM_FILE)  # fails when it exists, whoever was first
    except FileExistsError:
        holder = int((folder / CLAIM_FILE).read_text(encoding="utf-8"))
        if _alive(holder):
            return False
        os.replace(mine, folder / CLAIM_FILE)
    finally:
        mine.unlink(missing_ok=True)
    return True


def finished(folder: Path) -> bool:
    """Whether the cell is complete."""
    return (folder / CELL_FILE).exists()


def write_cell(folder: Path, cell: dict[str, Any], **arrays: np.ndarray) -> None:
    """Complete a cell: its arrays as `<name>.npy`, and `cell.json` last."""
    for name, array in arrays.items():
        write_file(folder / f"{name}.npy", lambda path, array=array: _save_array(path, array))  # type: ignore[misc]
    write_json(folder / CELL_FILE, cell)


def read_cells(folders: dict[int, Path], *arrays: str) -> dict[int, tuple[Any, ...]]:
    """By seed, the content of the finished cells among `folders`, and the arrays that are asked for."""
    found = {}
    for seed, folder in folders.items():
        if finished(folder):
            cell = json.loads((folder / CELL_FILE).read_text(encoding="utf-8"))
            found[seed] = (cell, *(np.load(folder / f"{name}.npy") for name in arrays))
    return found


def origin_of_cell(run: Any) -> dict[str, Any]:
    """What a cell's figures depend on beside its settings."""
    from onerec.run.provenance import code_version, machine, versions

    commit, dirty = code_version()
    facts = {"commit": commit, "dirty": dirty, "versions": versions(), "machine": machine()}
    return {**facts, "dataset_sha256": run.dataset.sha256}


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
