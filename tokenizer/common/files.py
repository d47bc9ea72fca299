"""Atomic replacement of a folder, so that no reader ever finds a half-written one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizer.errors import TokenizerError


@contextmanager
def replacing_folder(folder: Path, mark: str, what: str) -> Iterator[Path]:
    """Yield an empty folder to write to; it replaces `folder` when the block ends without an error.

    mark: a file that every folder of this kind contains. Raises TokenizerError when `folder` exists, is not empty and lacks
    that file, so that nothing else is overwritten. what: the kind of folder, for the message.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder / mark).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TokenizerError(f"{folder}: exists but holds no {what}; choose another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        written = scratch / "new"
        written.mkdir()
        yield written
        _swap_in(written, folder, aside=scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap_in(written: Path, folder: Path, aside: Path) -> None:
    """Rename `written` to `folder`. A folder already there is moved aside first, because rename cannot replace a full one."""
    replaced = folder.exists()
    if replaced:
        os.replace(folder, aside)
    try:
        os.replace(written, folder)
    except OSError:
        if replaced:
            os.replace(aside, folder)
        raise
