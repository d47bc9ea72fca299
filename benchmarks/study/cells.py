"""A cell of a study: one row with one seed, in a folder that one process fills.

A cell is complete when its folder holds `cell.json`. Figures of single cases lie beside it as samples, `<sample>.npz`: an array
`users` (whose case it is) and one array per figure, all of one length.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onerec.files import write_file, write_json

CELL_FILE, CLAIM_FILE = "cell.json", ".claim"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """A row of a study's table.

    Attributes:
        dataset: folder of the dataset below $ONEREC_DATA.
        name: identifies the row among those of its dataset.
        group: heading that it stands under.
        label: what it is, in words.
        settings: what it changes in the dataset's config.
        against: the row that its difference is taken to; empty for none.
        needs: the row whose finished cell of the same seed this one reads; empty for none.
        seeds: the only training seeds that it is run with; empty for all.
    """

    dataset: str
    name: str
    group: str = ""
    label: str = ""
    settings: tuple[str, ...] = ()
    against: str = ""
    needs: str = ""
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One row with one seed; `folder` is where its results lie."""

    row: Row
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the cell is complete."""
        return (self.folder / CELL_FILE).exists()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The content of `cell.json`."""
        content: dict[str, Any] = json.loads((self.folder / CELL_FILE).read_text(encoding="utf-8"))
        return content

    def has(self, sample: str) -> bool:
        """Whether the cell measured this sample."""
        return (self.folder / f"{sample}.npz").exists()

    def sample(self, name: str) -> dict[str, np.ndarray]:
        """`users` and the figures of a sample."""
        with np.load(self.folder / f"{name}.npz") as stored:
            return dict(stored)

    def claim(self) -> bool:
        """Take the cell for this process: False when it is complete, or a living process works on it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.finished:
            return False
        claimed, mine = self.folder / CLAIM_FILE, self.folder / f"{CLAIM_FILE}-{os.getpid()}"
        mine.write_text(str(os.getpid()), encoding="utf-8")
        try:
            os.link(mine, claimed)  # fails where it exists, whoever was first
        except FileExistsError:
            if _alive(int(claimed.read_text(encoding="utf-8"))):
                return False
            os.replace(mine, claimed)
        finally:
            mine.unlink(missing_ok=True)
        return True

    def write(self, facts: Mapping[str, Any], samples: Mapping[str, Arrays]) -> None:
        """Complete the cell: its samples, and `cell.json` last."""
        for name, arrays in samples.items():
            write_file(self.folder / f"{name}.npz", lambda path, arrays=arrays: _save(path, arrays))  # type: ignore[misc]
        write_json(self.folder / CELL_FILE, facts)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:  # a path that does not end in .npz would be given that ending
        np.savez(file, **arrays)  # type: ignore[arg-type]
