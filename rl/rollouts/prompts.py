"""Prompts of a policy: training histories at a moment, with the item that was taken next."""

from collections.abc import Iterator, Sized
from typing import Literal

import numpy as np

from onerec.data.requests import Requests, requests_at
from onerec.data.split import TRAIN, Sequences, count_part, even_rows


def training_prompts(
    sequences: Sequences,
    *,
    choice: Literal["newest", "random"] = "newest",
    per_user: int = 1,
    at_most: int | None = None,
    seed: int = 0,
) -> Requests:
    """Positions of the training part to generate at, with the events before each as its history.

    Args:
        sequences: of all users.
        choice: take the "newest" or "random" positions of each user, among training events with a training event before them.
        per_user: positions per user, at most.
        at_most: take an even sample if there are more prompts (`onerec.data.split.even_rows`). None: no limit.
        seed: of the random choice.

    Returns:
        requests with targets. `dropped` counts the users with a single training event, which has no history.
    """
    if per_user < 1:
        raise ValueError(f"per_user must be at least 1, got {per_user}")
    trained_U = count_part(sequences, TRAIN)
    asked_U = np.maximum(trained_U - 1, 0)  # the first event of a user has no history
    counts_U = np.minimum(asked_U, per_user)
    if choice == "newest":
        before_last = np.arange(counts_U.sum()) - np.repeat(np.cumsum(counts_U) - counts_U, counts_U)
        chosen = np.repeat(asked_U - counts_U, counts_U) + before_last
    else:
        chosen = _random_subsets(asked_U, per_user, np.random.default_rng(seed))
    targets = np.repeat(sequences.offsets[:-1] + 1, counts_U) + chosen
    if at_most is not None:
        targets = targets[even_rows(len(targets), at_most)]
    return requests_at(sequences, targets, dropped=int((trained_U == 1).sum()))


def _random_subsets(counts_U: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    """For each count n, min(n, size) different numbers below n, uniformly drawn, ascending; the results back to back.

    Floyd's algorithm (Bentley and Floyd, Communications of the ACM 30(9), 1987), for all counts at once. It needs one draw per
    number, however large the counts are.
    """
    sizes_U = np.minimum(counts_U, size)
    chosen_US = np.full((len(counts_U), size), -1, dtype=np.int64)
    for place in range(size):
        highest_U = counts_U - sizes_U + place
        drawn_U = draw.integers(0, highest_U + 1)
        taken_U = (chosen_US[:, :place] == drawn_U[:, None]).any(axis=1)
        chosen_US[:, place] = np.where(place < sizes_U, np.where(taken_U, highest_U, drawn_U), -1)
    chosen_US.sort(axis=1)
    return chosen_US[chosen_US >= 0]


def prompt_batches(prompts: Sized, size: int, seed: int, epoch: int, share: float = 1.0) -> list[np.ndarray]:
    """The rows of each batch of an epoch. The order depends on seed and epoch alone; the last batch may be shorter.

    Args:
        prompts: anything with a length.
        size: rows per batch.
        seed, epoch: of the order.
        share: share of the prompts that the epoch takes, at least one prompt; seed and epoch decide which.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(prompts))[: count_in_epoch(prompts, share)]
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def count_in_epoch(prompts: Sized, share: float) -> int:
    """The number of prompts in an epoch."""
    return max(1, round(share * len(prompts)))


def batches_from(prompts: Sized, size: int, seed: int, step: int = 0, share: float = 1.0) -> Iterator[np.ndarray]:
    """An endless stream of batches, epoch after epoch. From `step` on it equals the stream from the start."""
    epoch, skipped = divmod(step, -(-count_in_epoch(prompts, share) // size))
    while True:
        yield from prompt_batches(prompts, size, seed, epoch, share)[skipped:]
        epoch, skipped = epoch + 1, 0
