"""The log of metrics: always JSON lines, and Weights & Biases on request."""

import json
from pathlib import Path
from typing import Any


class MetricsLog:
    """Append one JSON object per line to a file, and mirror it to a wandb run if there is one.

    Args:
        path: the `.jsonl` file.
        kept_bytes: length of the file at the checkpoint. Lines that a killed run wrote after that are cut off, so a resumed run
            leaves the same lines as an uninterrupted one.
        wandb_project: name of a wandb project, or None. wandb works without a network if `WANDB_MODE=offline` is set.
        run: the config that wandb shows.
    """

    def __init__(
        self, path: Path, kept_bytes: int = 0, wandb_project: str | None = None, run: dict[str, Any] | None = None
    ) -> None:
        self._stream = path.open("ab")
        self._stream.truncate(kept_bytes)
        self._wandb: Any = None
        if wandb_project is not None:
            import wandb

            self._wandb = wandb.init(project=wandb_project, config=run, dir=str(path.parent), resume="allow")

    def write(self, values: dict[str, Any]) -> None:
        """Write one line; `values` must hold `step`."""
        self._stream.write(json.dumps(values).encode() + b"\n")
        self._stream.flush()
        if self._wandb is not None:
            self._wandb.log({key: value for key, value in values.items() if key != "step"}, step=values["step"])

    @property
    def length(self) -> int:
        """Bytes written so far, for the checkpoint."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the file and the wandb run."""
        self._stream.close()
        if self._wandb is not None:
            self._wandb.finish()
