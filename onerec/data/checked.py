"""Datasets that were checked before. While their files do not change, checks and hashing are skipped."""

from pathlib import Path
from typing import Any

from onerec.data.contract import Dataset, file_names, read_dataset, read_parquet, read_spec
from onerec.data.event_log import EventLog
from onerec.files import read_sealed, write_sealed


def read_checked(folder: Path, note: Path) -> Dataset:
    """Read a dataset folder. Check and hash it only if a file has changed since the last time.

    Args:
        folder: the dataset folder.
        note: a file with the sizes and times of the dataset's files and their hash. It is rewritten after checks.

    Raises:
        UserError: as from `read_dataset`.
    """
    remembered = _read(note)
    if remembered and remembered.get("files") == _states(folder, list(remembered["files"])):
        spec = read_spec(folder / "dataset.yaml")
        if list(remembered["files"]) == file_names(spec):
            users = None if spec.users is None else read_parquet(folder / "users.parquet")
            log, items = EventLog.of_file(folder / "events.parquet"), read_parquet(folder / "items.parquet")
            return Dataset(folder, spec, log, items, users, remembered["content"])
    before = _states(folder, file_names(read_spec(folder / "dataset.yaml"))) if folder.is_dir() else {}
    dataset = read_dataset(folder)
    if before == _states(folder, file_names(dataset.spec)):  # no file changed during the checks
        write_sealed(note, {"content": dataset.sha256, "files": before})
    return dataset


def _states(folder: Path, names: list[str]) -> dict[str, list[int] | None]:
    """Size in bytes and time of the last change in nanoseconds of each file; None for a missing file."""
    found: dict[str, list[int] | None] = {}
    for name in names:
        try:
            state = (folder / name).stat()
            found[name] = [state.st_size, state.st_mtime_ns]
        except OSError:
            found[name] = None
    return found


def _read(note: Path) -> dict[str, Any]:
    content = read_sealed(note) or {}
    return content if {"files", "content"} <= content.keys() else {}
