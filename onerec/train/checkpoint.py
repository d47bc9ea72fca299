"""Checkpoints: one file with everything that the next step depends on, written under another name and then renamed.

The file is the zip archive that `torch.save` writes. Its comment is the SHA-256 of all bytes before the comment.
"""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onerec.errors import UserError
from onerec.files import write_file

DIGITS = 64  # of a SHA-256 in hex


@dataclass
class Position:
    """Where a training run stands. The data order follows from seed, epoch and batch, so nothing else is needed to resume."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_score: float = -1.0
    best_step: int = 0
    stale_validations: int = 0
    finished: bool = False
    seconds: float = 0.0
    log_bytes: int = 0


def random_states() -> dict[str, Any]:
    """States of all random number generators that training uses in this process."""
    states: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the random number generators back to `states`, from `random_states`."""
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def write_checkpoint(path: Path, content: dict[str, Any], position: Position) -> None:
    """Write a checkpoint atomically: a crash leaves the old file or the new one, never a part of one."""
    complete = {**content, "position": asdict(position)}

    def write(temporary: Path) -> None:
        torch.save(complete, temporary)
        _append_hash(temporary)

    write_file(path, write)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Position] | None:
    """Read a checkpoint, or return None if there is none. Only tensors and plain values are unpickled.

    Raises:
        UserError: the file exists and cannot be read.
    """
    if not path.exists():
        return None
    if not _hash_fits(path):
        raise UserError(
            f"{path}: damaged, or written by an earlier version; delete this file and run again to start over"
        )
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content, Position(**content.pop("position"))
    except Exception as error:
        raise UserError(f"{path}: this checkpoint cannot be read ({error}); delete it to start over") from error


def _append_hash(path: Path) -> None:
    """Give a zip archive without a comment its hash as the comment."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # the last field of the archive: the length of its comment
        file.write(DIGITS.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(digest.encode())


def _hash_fits(path: Path) -> bool:
    digest, left = hashlib.sha256(), path.stat().st_size - DIGITS
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return file.read() == digest.hexdigest().encode()


def seed_dropout(seed: int, process: int) -> None:
    """Seed torch, differently in each process, so that each has its own dropout. numpy's generators have seeds of their own."""
    torch.manual_seed(seed + 1000 * process)
