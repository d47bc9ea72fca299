"""Replacing a folder of files as a whole, so that nobody ever finds half of one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizer.errors import TokenizerError


@contextmanager
def replacing_folder(folder: Path, mark: str, what: str) -> Iterator[Path]:
    """An empty folder to write to, which takes the place of `folder` when the block ends without an error.

    mark: name of a file by which a folder of this kind is known. TokenizerError when `folder` exists, is not empty and has
    no such file; `what` says in the message what it should have held.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder / mark).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TokenizerError(f"{folder}: exists and holds no {what}; choose another folder, or remove it.")
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
    """Rename `written` to `folder`; the one in place steps aside first, as it cannot be renamed over while full."""
    replaced = folder.exists()
    if replaced:
        os.replace(folder, aside)
    try:
        os.replace(written, folder)
    except OSError:
        if replaced:
            os.replace(aside, folder)
        raise
