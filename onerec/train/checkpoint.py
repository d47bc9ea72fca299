"""Checkpoints: one file, written beside its place and renamed, holding all that the next step depends on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from onerec.errors import UserError
from onerec.files import write_file


@dataclass
class Position:
    """Where a training run stands. The data order follows from seed, epoch and batch; nothing else is needed to go on."""

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
    """States of every generator that training draws from on this process."""
    states: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo whatever was drawn since `random_states`."""
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def write_checkpoint(path: Path, content: dict[str, Any], position: Position) -> None:
    """Write a checkpoint atomically: a crash leaves the old file or the new one, never half of one."""
    complete = {**content, "position": asdict(position)}
    write_file(path, lambda temporary: torch.save(complete, temporary))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Position] | None:
    """Read a checkpoint (tensors and plain values only, nothing is unpickled freely), or None where there is none.

    Raises:
        UserError: the file is there and cannot be read.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content, Position(**content.pop("position"))
    except Exception as error:
        raise UserError(f"{path}: this checkpoint cannot be read ({error}); delete it to start over") from error


def seed_dropout(seed: int, process: int) -> None:
    """Give each process dropout of its own; what is drawn from numpy has generators with seeds of their own."""
    torch.manual_seed(seed + 1000 * process)
