"""Seconds of pieces of work that take turns, so that a slow moment of the machine hits all of them, and their spread."""

import time
from collections.abc import Callable
from typing import Any


def timed(work: Callable[..., object], *arguments: Any) -> float:
    """Seconds of wall clock that the work takes."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def in_turns(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each piece of work, in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, one in work.items():
            taken = timed(one)
            if turn:
                seconds[name].append(taken)
    return seconds


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """The `spread` of slow / fast, turn by turn; turns that only one of them had are left out."""
    return spread([one / other for one, other in zip(slow, fast, strict=False)])


def spread(values: list[float]) -> dict[str, float]:
    """Median (as `value`), least and largest of the repeats, and how many there were."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {"value": middle, "min": ordered[0], "max": ordered[-1], "repeats": len(ordered)}
