"""Histories, logs and requests that several test files share."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onerec.data.requests import Requests

Histories = list[list[int]]


def flat(sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences as items back to back and where each begins."""
    items = np.array([item for sequence in sequences for item in sequence], dtype=np.int32)
    return items, np.cumsum([0, *map(len, sequences)], dtype=np.int64)


def requests_of(histories: Sequence[Sequence[int]], targets: Sequence[int] | np.ndarray | None = None) -> Requests:
    """Requests whose histories are all that is known; with the items that were taken next where `targets` names them."""
    asked = Requests.of_histories(*flat(histories))
    return asked if targets is None else replace(asked, targets_C=np.asarray(targets, dtype=np.int32))


def random_histories(seed: int, count: int, items: int, longest: int, shortest: int = 1) -> Histories:
    """Histories of some popular and many rare items, `shortest` to `longest` events each."""
    draw = np.random.default_rng(seed)
    weights = draw.permutation(1.0 / np.arange(1, items + 1))
    lengths = draw.integers(shortest, longest + 1, size=count)
    return [draw.choice(items, size=length, p=weights / weights.sum()).tolist() for length in lengths]


def histories_of(requests: Requests) -> Histories:
    """The histories as lists."""
    return [part.tolist() for part in np.split(requests.history_items, requests.history_offsets[1:-1])][: len(requests)]
