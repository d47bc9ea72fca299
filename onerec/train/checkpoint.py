"""Checkpoints: one file with everything that the next step depends on, written under another name and then renamed."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onerec.errors import UserError
from onerec.files import write_file


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
    write_file(path, lambda temporary: torch.save(complete, temporary))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Position] | None:
    """Read a checkpoint, or return None if there is none. Only tensors and plain values are unpickled.

    Raises:
        UserError: the file exists and cannot be read.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content, Position(**content.pop("position"))
    except Exception as error:
        raise UserError(f"{path}: this checkpoint cannot be read ({error}); delete it to start over") from error


def seed_dropout(seed: int, process: int) -> None:
    """Seed torch, differently in each process, so that each has its own dropout. numpy's generators have seeds of their own."""
    torch.manual_seed(seed + 1000 * process)
