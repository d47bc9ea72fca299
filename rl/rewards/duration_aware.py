"""OneRec-V2's duration-aware reward (arXiv 2508.20900, section 3.4): whether a user watched long for a video of that length.

Raw play time rewards long videos. So this reward compares a play time with the same user's play times of videos of about the
same duration. It needs a play time, and so it rewards logged exposures (`rl.alignment.exposures`). It is not a `Reward` of
generations: nobody knows how long a user would watch a generated item.
"""

from bisect import bisect_right, insort
from typing import Literal

import numpy as np

from onerec.data.checks import nearest_name
from onerec.data.contract import Dataset
from onerec.errors import UserError
from rl.config.alignment import DurationAwareConfig

EPSILON = 1e-6  # milliseconds; keeps the logarithm of duration 0 finite


def duration_aware_advantages(
    users_E: np.ndarray,
    play_times_E: np.ndarray,
    durations_E: np.ndarray,
    disliked_E: np.ndarray,
    batches_E: np.ndarray | None = None,
    config: DurationAwareConfig | None = None,
) -> np.ndarray:
    """Advantages of logged exposures, int8 `[E]`: +1, 0 or -1. They are not to be normalised.

    Args:
        users_E: the user of each exposure, any integers; a user's exposures are in time order.
        play_times_E: milliseconds, NaN where unknown.
        durations_E: milliseconds, NaN where unknown.
        disliked_E: whether the user disliked it explicitly.
        batches_E: the batch of each exposure, integers from 0; the top share is taken within each batch. None: a single batch.
        config: None: the defaults.
    """
    config = config or DurationAwareConfig()
    buckets_E = duration_buckets(durations_E, config.base)
    percentiles_E = play_time_percentiles(users_E, buckets_E, play_times_E, config.history, config.least)
    batches_E = np.zeros(len(users_E), np.int64) if batches_E is None else batches_E
    advantages_E = np.zeros(len(users_E), np.int8)
    for batch in np.unique(batches_E):
        rows = np.flatnonzero(batches_E == batch)
        advantages_E[rows] = advantages_of_batch(percentiles_E[rows], disliked_E[rows], config.top_share)
    return advantages_E


def duration_buckets(durations_E: np.ndarray, base: float) -> np.ndarray:
    """`floor(log_base(d + epsilon))` as float64 `[E]`, NaN where the duration is unknown."""
    if base <= 1:
        raise ValueError(f"the base of the logarithm must be above 1, not {base}")
    if (durations_E < 0).any():
        raise ValueError("durations must not be negative")
    buckets_E: np.ndarray = np.floor(np.log(np.asarray(durations_E, np.float64) + EPSILON) / np.log(base))
    return buckets_E


def play_time_percentiles(
    users_E: np.ndarray, buckets_E: np.ndarray, play_times_E: np.ndarray, history: Literal["before", "all"], least: int
) -> np.ndarray:
    """The share of a user's plays in the same bucket that were no longer, float64 `[E]`.

    It is NaN where the duration or play time is unknown, and with fewer than `least` plays to compare with.

    Args:
        users_E, play_times_E: as in `duration_aware_advantages`.
        buckets_E: as `duration_buckets` returns them.
        history, least: see `DurationAwareConfig`.
    """
    percentiles_E = np.full(len(users_E), np.nan)
    known = np.flatnonzero(~np.isnan(buckets_E) & ~np.isnan(play_times_E))
    order = known[np.lexsort((known, buckets_E[known], users_E[known]))]
    changed = (np.diff(users_E[order]) != 0) | (np.diff(buckets_E[order]) != 0)
    for group in np.split(order, np.flatnonzero(changed) + 1):
        plays = play_times_E[group]
        if history == "all":
            shorter, compared = np.searchsorted(np.sort(plays), plays, side="right"), np.full(len(plays), len(plays))
        else:
            compared, shorter = np.arange(len(plays)), _earlier_up_to(plays)
        enough = compared >= max(least, 1)
        percentiles_E[group[enough]] = shorter[enough] / compared[enough]
    return percentiles_E


def _earlier_up_to(values_E: np.ndarray) -> np.ndarray:
    """For each value, the number of earlier values that are no larger, int64 `[E]`."""
    earlier: list[float] = []
    counts_E = np.zeros(len(values_E), np.int64)
    for place, value in enumerate(values_E.tolist()):
        counts_E[place] = bisect_right(earlier, value)
        insort(earlier, value)
    return counts_E


def advantages_of_batch(percentiles_E: np.ndarray, disliked_E: np.ndarray, top_share: float = 0.25) -> np.ndarray:
    """Advantages within a batch, int8 `[E]`: -1 if disliked, else +1 above the quantile `1 - top_share` of percentiles, else 0.

    As in the paper the comparison is strict: if more than `top_share` of the batch share the highest percentile, none gets +1.
    """
    judged = ~np.isnan(percentiles_E)
    advantages_E = np.zeros(len(percentiles_E), np.int8)
    if judged.any():
        border = np.quantile(percentiles_E[judged], 1 - top_share)
        advantages_E[judged & (percentiles_E > border)] = 1
    advantages_E[disliked_E] = -1
    return advantages_E


def play_events(dataset: Dataset, rows_E: np.ndarray, dislike: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play times and durations, float64 `[E]` with NaN where unknown, and whether each event was disliked.

    A duration of 0 counts as unknown.

    Args:
        dataset: holds the events.
        rows_E: rows of events.parquet.
        dislike: the signal of explicit dislike, or None if the log has none.

    Raises:
        UserError: the dataset records no play time or duration, or has no such signal.
    """
    columns, where = dataset.spec.events, dataset.folder / "dataset.yaml"
    if columns.play_time is None or columns.duration is None:
        raise UserError(f"{where}: the duration-aware reward needs events.play_time and events.duration")
    if dislike is not None and dislike not in columns.signals:
        raise UserError(f'{where}: events.signals has no "{dislike}"; {nearest_name(dislike, columns.signals)}')
    events = dataset.events[rows_E]
    plays_E = events[columns.play_time].cast(float).to_numpy()
    durations_E = events[columns.duration].cast(float).to_numpy()
    durations_E = np.where(durations_E > 0, durations_E, np.nan)
    if dislike is None:
        return plays_E, durations_E, np.zeros(len(plays_E), bool)
    return plays_E, durations_E, events[dislike].fill_null(0).to_numpy() == 1
