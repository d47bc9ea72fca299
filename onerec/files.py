"""Writing files so that nobody ever finds half of one."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizer.common.integrity import sealed, sync, unsealed

_TEMPORARY = re.compile(r"^\..+\.\d+\.tmp$")


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as `write_file` does."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON as `write_file` does; what JSON does not know is written as its text."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with its own hash, as `write_file` does."""
    plain = json.loads(json.dumps(content, default=str))
    write_json(path, sealed(plain))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The object that `write_sealed` wrote; None if there is no such file, or it was changed or damaged since."""
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def is_temporary(path: Path) -> bool:
    """Whether a killed `write_file` left this file."""
    return _TEMPORARY.match(path.name) is not None


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes left in a folder. Nobody else may be writing there."""
    for path in folder.iterdir():
        if is_temporary(path):
            path.unlink(missing_ok=True)
