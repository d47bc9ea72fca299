"""OneRec-V2's duration-aware reward (arXiv 2508.20900, section 3.4): whether somebody watched long for a video of that length.

Raw play time rewards long videos. Here a play time is compared with those that the same user gave to videos of about the same
duration. It takes a play time, so it rewards logged exposures, from which alignment learns beside its generations
(`rl.exposures`). What a user would watch of a generated item is unknown: this is no `Reward`, and nothing here guesses.
"""

from bisect import bisect_right, insort
from typing import Literal

import numpy as np

from onerec.data.checks import nearest_name
from onerec.data.contract import Dataset
from onerec.errors import UserError
from rl.config.alignment import DurationAwareConfig

EPSILON = 1e-6  # milliseconds; keeps the logarithm of a duration of 0 finite


def duration_aware_advantages(
    users_E: np.ndarray,
    play_times_E: np.ndarray,
    durations_E: np.ndarray,
    disliked_E: np.ndarray,
    batches_E: np.ndarray | None = None,
    config: DurationAwareConfig | None = None,
) -> np.ndarray:
    """Advantages of logged exposures, int8 `[E]`: +1, 0 or -1, not to be normalised.

    Args:
        users_E: whose exposure it is, any whole numbers; a user's exposures are in time order.
        play_times_E: milliseconds, NaN where unknown.
        durations_E: milliseconds, NaN where unknown.
        disliked_E: whether the user said so.
        batches_E: which batch each belongs to, whole numbers from 0: the top share is one of each batch. None: all are one.
        config: None: as the defaults are.
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
        raise ValueError(f"a logarithm's base must be above 1, not {base}")
    if (durations_E < 0).any():
        raise ValueError("durations must not be negative")
    buckets_E: np.ndarray = np.floor(np.log(np.asarray(durations_E, np.float64) + EPSILON) / np.log(base))
    return buckets_E


def play_time_percentiles(
    users_E: np.ndarray, buckets_E: np.ndarray, play_times_E: np.ndarray, history: Literal["before", "all"], least: int
) -> np.ndarray:
    """The share of a user's plays in the same bucket that were as long or shorter, float64 `[E]`.

    Args:
        history: see `DurationAwareConfig`.
        least: with fewer plays to compare with the percentile is NaN, as it is where duration or play time is unknown.
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
    """For each value, how many before it are no larger, int64 `[E]`."""
    earlier: list[float] = []
    counts_E = np.zeros(len(values_E), np.int64)
    for place, value in enumerate(values_E.tolist()):
        counts_E[place] = bisect_right(earlier, value)
        insort(earlier, value)
    return counts_E


def advantages_of_batch(percentiles_E: np.ndarray, disliked_E: np.ndarray, top_share: float = 0.25) -> np.ndarray:
    """+1 above the quantile `1 - top_share` of the batch's percentiles and not disliked, -1 where disliked, else 0; int8 `[E]`.

    The comparison is strict, as in the paper: where more than `top_share` share the highest percentile, none of them is above.
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

    A duration of 0 is one that was not recorded.

    Args:
        dataset: where the events are.
        rows_E: their rows in events.parquet.
        dislike: the signal of explicit dislike, or None where the log has none.

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
