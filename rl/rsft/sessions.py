"""RSFT: next-code training goes on with the better half of the sessions.

The Technical Report (arXiv 2506.13695, post-training) ranks exposure sessions by play time, drops the lower half and trains on.
It does not define a session. Here a session is a series of one user's exposures without a long pause, or, in a log without
times, a fixed number of exposures. Its play time counts all exposures, liked or not, and the sessions of all users are ranked
together. Events of dropped sessions stay in the histories; they are only no targets any more.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch

from onerec.data.contract import Dataset
from onerec.data.split import TRAIN
from onerec.data.stream import EventOrder, StreamWindows
from onerec.data.windows import Batch, Windows
from onerec.errors import UserError
from onerec.run.run import Run
from onerec.run.stages.generator import generator_windows
from rl.config.rsft import RsftConfig


@dataclass(frozen=True)
class Sessions:
    """Sessions of all users, ranked by play time.

    Attributes:
        rows_E: rows of events.parquet, user by user, oldest first: all exposures up to a user's last training target.
        numbers_E: the session of each row, counted from 0.
        dropped_S: boolean, sessions whose events are dropped as targets.
    """

    rows_E: np.ndarray
    numbers_E: np.ndarray
    dropped_S: np.ndarray

    @property
    def kept_rows(self) -> np.ndarray:
        """Rows of events.parquet in the sessions that are kept."""
        return self.rows_E[~self.dropped_S[self.numbers_E]]


def lower_sessions(play_time_S: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The `share` of sessions (rounded down) with the least play time, boolean `[S]`. The seed decides between equal ones.

    The file's order must not decide, because the order of users in a file is not random.
    """
    shuffled_S = np.random.default_rng(seed).permutation(len(play_time_S))
    ranked_S = shuffled_S[np.argsort(play_time_S[shuffled_S], kind="stable")]
    dropped_S = np.zeros(len(play_time_S), dtype=bool)
    dropped_S[ranked_S[: int(share * len(play_time_S))]] = True
    return dropped_S


def rank_sessions(dataset: Dataset, order: EventOrder, config: RsftConfig, seed: int) -> Sessions:
    """Cut the training part into sessions and choose those to drop.

    Args:
        dataset: holds play times and times.
        order: of all events (`onerec.data.stream.order_events` with "all").
        config: what a session is, and the share to drop.
        seed: decides between sessions with equal play times.

    Raises:
        UserError: a training event has no play time, or, with `session_gap`, no time. The message names the column.
    """
    columns, rows_E = dataset.spec.events, order.rows_E[order.trained_E]
    users_E = np.repeat(np.arange(len(order.offsets) - 1), np.diff(order.offsets))[order.trained_E]
    play_time_E = _known_values(dataset, "play_time", columns.play_time, rows_E, "RSFT ranks sessions by it")
    if config.session_events is not None:
        numbers_E = sessions_by_count(users_E, config.session_events)
    else:
        assert config.session_gap is not None
        why = "rsft.session_gap needs it; set rsft.session_events instead"
        time_E = _known_values(dataset, "time", columns.time, rows_E, why)
        numbers_E = sessions_by_pause(users_E, time_E, config.session_gap)
    play_time_S = np.bincount(numbers_E, weights=play_time_E)
    return Sessions(rows_E, numbers_E, lower_sessions(play_time_S, config.dropped_share, seed))


def sessions_by_pause(users_E: np.ndarray, time_E: np.ndarray, gap: float) -> np.ndarray:
    """The session of each event, counted from 0. Each user and each pause longer than `gap` begins a new one."""
    begins_E = (np.diff(users_E, prepend=-1) != 0) | (np.diff(time_E, prepend=0) > gap)
    return np.cumsum(begins_E) - 1


def sessions_by_count(users_E: np.ndarray, count: int) -> np.ndarray:
    """The session of each event, counted from 0. Each user begins a new one, and so does every `count`-th event of a user."""
    places_E, first_E = np.arange(len(users_E)), np.diff(users_E, prepend=-1) != 0
    of_user_E = places_E - np.maximum.accumulate(np.where(first_E, places_E, 0))
    return np.cumsum(of_user_E % count == 0) - 1


def _known_values(dataset: Dataset, key: str, column: str | None, rows_E: np.ndarray, why: str) -> np.ndarray:
    """Some rows of the column that `events.KEY` names, as float64; datetimes in seconds."""
    if column is None:
        raise UserError(f"{dataset.folder / 'dataset.yaml'}: events.{key} names no column, but {why}")
    values = dataset.events[column][rows_E]
    if missing := values.null_count():
        raise UserError(
            f'{dataset.folder / "events.parquet"}, column "{column}" (events.{key}): empty in {missing:,} of '
            f"{len(values):,} training events, but {why}"
        )
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).to_physical().to_numpy() / 1e6
    return values.cast(pl.Float64).to_numpy()


@dataclass(frozen=True)
class ChosenTargets(Windows):
    """Windows in which only chosen targets count. Their histories stay complete. `choose_targets` makes them.

    Attributes:
        windows: the same windows with all their targets.
        chosen_E: boolean by place of the flat item array, events that may be targets.
    """

    windows: Windows
    chosen_E: np.ndarray

    @cached_property
    def _chosen_before(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.chosen_E)])

    @property
    def target_counts(self) -> np.ndarray:
        return self._chosen_before[self.stops + 1] - self._chosen_before[self.first_targets + 1]

    def batch(self, rows: np.ndarray) -> Batch:
        whole = self.windows.batch(rows)
        starts_B = np.where(rows >= 0, self.starts[rows], 0)
        steps_T = np.arange(whole.items_BT.shape[1])
        inside_BT = steps_T < whole.lengths_B.numpy()[:, None]
        targets_BT = np.where(inside_BT & (rows >= 0)[:, None], starts_B[:, None] + steps_T + 1, 0)
        return replace(whole, counted_BT=whole.counted_BT & torch.from_numpy(self.chosen_E[targets_BT]))


def choose_targets(windows: Windows, chosen_E: np.ndarray) -> ChosenTargets:
    """Windows in which only chosen targets count, without windows that have none.

    Args:
        windows: of any kind.
        chosen_E: boolean by place of `windows.item_index`; false wherever `windows` has no target.
    """
    every = ChosenTargets(windows.item_index, windows.starts, windows.stops, windows.first_targets, windows, chosen_E)
    kept = every.target_counts > 0
    ranges = {name: getattr(windows, name)[kept] for name in ("starts", "stops", "first_targets")}
    return replace(every, windows=replace(windows, **ranges), **ranges)


def sessions_of(run: Run, config: RsftConfig) -> Sessions:
    """The sessions of a run's training part. Raises UserError; see `rank_sessions`."""
    return rank_sessions(run.dataset, run.reading.order_of_all, config, run.config.seed)


def kept_windows(run: Run, sessions: Sessions) -> ChosenTargets:
    """The training windows of a run's generator, with targets in kept sessions only. Raises UserError if no target is left."""
    kept_R = np.zeros(run.dataset.events.height, dtype=bool)
    kept_R[sessions.kept_rows] = True
    windows = generator_windows(run)
    if isinstance(windows, StreamWindows):
        chosen_E = kept_R[run.reading.order.rows_E[run.reading.order.trained_E]] & windows.stream.is_target_E
    else:
        chosen_E = kept_R[run.sequences.event_rows[run.sequences.part == TRAIN]]
    chosen = choose_targets(windows, chosen_E)
    if not len(chosen):
        raise UserError(
            f"{run.dataset.folder}: no training target is in a session that RSFT keeps; lower rsft.dropped_share"
        )
    return chosen
