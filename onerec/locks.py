"""One command at a time may change a folder."""

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from onerec.errors import UserError

LOCK_FILE, HOLDER_FILE = ".lock", ".lock.json"


def hold_folder(folder: Path, command: str) -> FileLock:
    """Lock a folder until the process ends or the lock is released. A process that holds it already may ask again.

    The operating system frees the lock of a process that has died, so no lock is ever stale.

    Args:
        folder: is made if it is not there.
        command: what the message of another command calls this one.

    Raises:
        UserError: another command holds the folder. The message names its process and host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder}: in use by {_holder(folder)}; wait until it ends, stop it, or choose another folder"
        ) from error
    holder = {"command": command, "process": os.getpid(), "host": socket.gethostname(), "since": _now()}
    (folder / HOLDER_FILE).write_text(json.dumps(holder) + "\n", encoding="utf-8")
    return lock


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        return f"`{holder['command']}` (process {holder['process']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another command"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
