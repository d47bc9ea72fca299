"""The progress of training for a person: a bar on a terminal, and one line per validation everywhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress:
    """A progress bar with loss, speed and remaining time.

    Args:
        label: name of the model in training.
        total_steps: optimizer steps of the whole schedule; early stopping may end sooner.
        shown: false in processes that must print nothing.
        unit: the unit of the speed, counted per second.
    """

    def __init__(self, label: str, total_steps: int, shown: bool, unit: str = "targets") -> None:
        self.label, self.shown, self.started = label, shown, time.perf_counter()
        self.rate, self.unit = 0.0, unit
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("loss {task.fields[loss]:.3f} · {task.fields[rate]:,.0f} " + f"{unit}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not (shown and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task(label, total=total_steps, loss=float("nan"), rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: int, loss: float, rate: float) -> None:
        """Show the loss in nats per target and the training speed."""
        self.rate = rate
        self._bar.update(self._task, completed=step, loss=loss, rate=rate)

    def validated(self, epoch: int, figures: dict[str, float], best: bool) -> None:
        """Print the line of a validation."""
        if not self.shown:
            return
        text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        elapsed = time.perf_counter() - self.started
        line = f"{self.label}: epoch {epoch:>3}  {text}  {self.rate:,.0f} {self.unit}/s  {elapsed:.0f} s"
        self._bar.console.print(line + ("  (best)" if best else ""), highlight=False, soft_wrap=True)
