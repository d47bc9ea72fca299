"""A dataset that was checked before: its checks and its hash are remembered while its files stay as they were."""

import json
from pathlib import Path
from typing import Any

from onerec.data.contract import Dataset, file_names, read_dataset, read_parquet, read_spec
from onerec.data.event_log import EventLog
from onerec.files import write_json


def read_checked(folder: Path, note: Path) -> Dataset:
    """Read a dataset folder; check and hash it only where a file has changed since the last time.

    Args:
        folder: of the dataset.
        note: where size and time of the files are remembered, and the hash that they had. It is written anew after checks.

    Raises:
        UserError: as `read_dataset` does.
    """
    remembered = _read(note)
    if remembered and remembered.get("files") == _states(folder, list(remembered["files"])):
        spec = read_spec(folder / "dataset.yaml")
        if list(remembered["files"]) == file_names(spec):
            users = None if spec.users is None else read_parquet(folder / "users.parquet")
            log, items = EventLog.of_file(folder / "events.parquet"), read_parquet(folder / "items.parquet")
            return Dataset(folder, spec, log, items, users, remembered["sha256"])
    before = _states(folder, file_names(read_spec(folder / "dataset.yaml"))) if folder.is_dir() else {}
    dataset = read_dataset(folder)
    if before == _states(folder, file_names(dataset.spec)):  # nobody wrote while it was read
        write_json(note, {"sha256": dataset.sha256, "files": before})
    return dataset


def _states(folder: Path, names: list[str]) -> dict[str, list[int] | None]:
    """Size in bytes and time of the last change in nanoseconds of each file; None for one that is missing."""
    found: dict[str, list[int] | None] = {}
    for name in names:
        try:
            state = (folder / name).stat()
            found[name] = [state.st_size, state.st_mtime_ns]
        except OSError:
            found[name] = None
    return found


def _read(note: Path) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return content if isinstance(content["files"], dict) and isinstance(content["sha256"], str) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
