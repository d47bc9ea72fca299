"""Hashes of saved files, so that a file that was changed, damaged or swapped is never read as if it were the one that was saved.

A saved folder holds `SHA256SUMS`, in the format of the program `sha256sum`: `sha256sum -c SHA256SUMS` checks it by hand.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizer.errors import TokenizerError

SUMS_FILE = "SHA256SUMS"
SEAL = "sha256"


def file_hash(path: Path) -> str:
    """The SHA-256 of a file in hex. A file that this process has hashed before is hashed again only if it was written since."""
    state = path.stat()
    return _hash(str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _hash(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file, by its path below `folder` with forward slashes."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)}


def first_difference(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is missing, unreadable or not the one that was hashed; None if all are as they were.

    The text begins with the file's path.
    """
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: missing"
        try:
            found = file_hash(path)
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror})"
        if found != expected:
            return f"{path}: not the file that was saved (its SHA-256 differs)"
    return None


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` for all files below a folder. The folder must be complete and still under its temporary name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS_FILE)
    lines = [f"{digest}  {name}\n" for name, digest in hashes_of(folder, files).items()]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path, remedy: str) -> None:
    """Compare a saved folder with its `SHA256SUMS`.

    Args:
        folder: that `write_sums` completed.
        remedy: ends the message, such as "tokenize again".

    Raises:
        TokenizerError: a file is missing or was changed since, or the sums are missing or damaged.
    """
    path = folder / SUMS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: missing or unreadable, so the folder cannot be checked; {remedy}") from error
    hashes = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if problem := first_difference(folder, hashes):
        raise TokenizerError(f"{problem}; {remedy}")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values with their own hash among them, under "sha256"."""
    plain = {key: value for key, value in content.items() if key != SEAL}
    return {**plain, SEAL: _seal_of(plain)}


def unsealed(content: Any) -> dict[str, Any] | None:
    """The values that `sealed` was given; None if anything was changed since."""
    if not isinstance(content, dict) or not isinstance(content.get(SEAL), str):
        return None
    plain = {key: value for key, value in content.items() if key != SEAL}
    return plain if content[SEAL] == _seal_of(plain) else None


def _seal_of(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def sync(path: Path) -> None:
    """Have a file or folder written to the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
