"""A progress bar for long work. It appears only on a terminal, and only after some seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 3.0  # shorter work shows no bar


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of items that were just finished, out of `total`.

    Nothing is printed when standard error is not a terminal, or when everything is done within PATIENCE_SECONDS.
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich import progress as parts
    from rich.console import Console

    columns = (parts.TextColumn("{task.description}"), parts.BarColumn(), parts.MofNCompleteColumn())
    times = (parts.TimeElapsedColumn(), parts.TimeRemainingColumn())
    bar = parts.Progress(*columns, *times, console=Console(stderr=True), transient=True)
    task, began = bar.add_task(what, total=total), time.monotonic()

    def advance(count: int) -> None:
        bar.advance(task, count)
        if not bar.live.is_started and time.monotonic() - began > PATIENCE_SECONDS:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
