"""Sessions of RSFT: which are dropped, and that only their events stop being targets."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rsft_cases import sessions_of_table
from watched_cases import opened, spec_without, watched_events, with_another_end, write_watched

from onerec.data.split import split_sequences
from onerec.data.stream import order_events
from onerec.data.windows import Windows, epoch_batches, every_position_windows, one_target_windows
from onerec.errors import UserError
from onerec.run.run import Run
from onerec.run.stages.generator import generator_windows
from rl.config.rsft import RsftConfig
from rl.rsft.sessions import (
    ChosenTargets,
    choose_targets,
    kept_windows,
    lower_sessions,
    rank_sessions,
    sessions_by_count,
    sessions_by_pause,
    sessions_of,
)

GAP = RsftConfig(session_gap=2500)
users = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=9), min_size=1, max_size=5)


@given(users, st.integers(1, 60), st.integers(1, 4))
def test_sessions_equal_a_loop_over_users(pauses: list[list[int]], gap: int, count: int) -> None:
    users_E = np.repeat(np.arange(len(pauses)), [len(row) for row in pauses])
    times, by_pause, by_count = [], [], []
    for user, row in enumerate(pauses):
        time = 1000 - 100 * user  # a later user may begin earlier
        for place, pause in enumerate(row):
            time += pause
            times.append(time)
            by_pause.append(place == 0 or pause > gap)
            by_count.append(place % count == 0)
    found = sessions_by_pause(users_E, np.array(times, dtype=float), gap)
    assert found.tolist() == (np.cumsum(by_pause) - 1).tolist()
    assert sessions_by_count(users_E, count).tolist() == (np.cumsum(by_count) - 1).tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.floats(0.1, 0.9), st.integers(0, 99))
def test_the_sessions_with_the_least_play_time_are_dropped(times: list[int], share: float, seed: int) -> None:
    dropped = lower_sessions(np.array(times), share, seed)
    assert dropped.sum() == int(share * len(times))
    kept = [time for time, gone in zip(times, dropped, strict=True) if not gone]
    assert all(time <= min(kept) for time, gone in zip(times, dropped, strict=True) if gone)


def test_the_order_of_the_file_does_not_decide_between_equal_sessions() -> None:
    dropped = lower_sessions(np.zeros(1000), 0.5, seed=0)
    # A fair half of the first 500 within four standard deviations.
    assert abs(int(dropped[:500].sum()) - 250) < 4 * 500**0.5 / 2


def plain_kept(run: Run, config: RsftConfig) -> set[tuple[int, int]]:
    """User and time of the training targets that stay."""
    sessions = sessions_of_table(run, config)
    return {(row["user"], row["time"]) for gone, session in sessions for row in session if not gone and row["liked"]}


def counted(run: Run, windows: Windows) -> list[tuple[int, int]]:
    """User and time of every target that counts in an epoch of batches, by what stands there."""
    columns = run.dataset.events.select("user", "time").to_numpy()
    if run.config.generator.pathways.in_use:
        rows = run.reading.order.rows_E[run.reading.order.trained_E]
    else:
        rows = run.sequences.event_rows[run.sequences.part == 0]
    found, declared = [], 0
    for batch_rows in epoch_batches(windows, 8, seed=1, epoch=0):
        batch = windows.batch(batch_rows)
        declared += int(windows.target_counts[batch_rows].sum())
        for row, position in batch.counted_BT.nonzero().tolist():
            place = windows.starts[batch_rows[row]] + position + 1
            assert windows.item_index[place] == batch.targets_BT[row, position]
            found.append(tuple(columns[rows[place]].tolist()))
    assert len(found) == declared
    return found


def rsft_windows(run: Run, config: RsftConfig = GAP) -> ChosenTargets:
    return kept_windows(run, sessions_of(run, config))


@pytest.mark.parametrize("context", ["causal", "bidirectional"])
@pytest.mark.parametrize("pathways", [True, False])
@pytest.mark.parametrize(
    "config",
    [GAP, RsftConfig(session_events=3), RsftConfig(session_gap=2500, dropped_share=0.8)],
)
def test_only_targets_of_kept_sessions_count_and_each_counts_once(
    tmp_path: Path, config: RsftConfig, pathways: bool, context: str
) -> None:
    dataset = write_watched(tmp_path / "watched", watched_events())
    run = opened(dataset, tmp_path / "run", f"generator.context={context}", pathways=pathways)
    before = counted(run, generator_windows(run))
    assert len(before) == len(set(before))
    found = counted(run, rsft_windows(run, config))
    assert len(found) == len(set(found))
    assert set(found) == set(before) & plain_kept(run, config)
    assert 0 < len(found) < len(before)


def test_histories_stay_complete(tmp_path: Path) -> None:
    run = opened(write_watched(tmp_path / "watched", watched_events()), tmp_path / "run")
    chosen = rsft_windows(run)
    rows = np.arange(len(chosen))
    ours, whole = chosen.batch(rows), chosen.windows.batch(rows)
    assert torch.equal(ours.items_BT, whole.items_BT)
    assert torch.equal(ours.lengths_B, whole.lengths_B)
    assert ours.context_features is not None and whole.context_features is not None
    assert torch.equal(ours.context_features.features_BTF, whole.context_features.features_BTF)
    assert not (ours.counted_BT & ~whole.counted_BT).any()
    assert not chosen.batch(np.array([-1])).counted_BT.any()


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 5), st.booleans())
def test_windows_without_a_chosen_target_are_left_out(chosen: list[bool], length: int, causal: bool) -> None:
    make = every_position_windows if causal else one_target_windows
    windows = make(np.arange(12, dtype=np.int32), np.array([0, 5, 5, 12]), length)
    picked = choose_targets(windows, np.array(chosen))
    assert (picked.target_counts > 0).all()
    # A user's first event is no target.
    expected = [place for place in range(12) if chosen[place] and place not in (0, 5)]
    batches = [picked.batch(np.array([row])) for row in range(len(picked))]
    assert sorted(int(t) for batch in batches for t in batch.targets_BT[batch.counted_BT]) == expected


def test_datetimes_are_compared_in_seconds(tmp_path: Path) -> None:
    numbers = watched_events()
    moments = numbers.with_columns(
        time=pl.lit(datetime(2024, 1, 1)) + pl.col("time").map_elements(lambda s: timedelta(seconds=s), pl.Duration)
    )
    ranked = []
    for name, events in (("numbers", numbers), ("moments", moments)):
        dataset = write_watched(tmp_path / name, events)
        sequences = split_sequences(dataset, positive="liked")
        ranked.append(rank_sessions(dataset, order_events(dataset, sequences, "all"), GAP, 0))
    assert np.array_equal(ranked[0].numbers_E, ranked[1].numbers_E)
    assert np.array_equal(ranked[0].kept_rows, ranked[1].kept_rows)
    assert ranked[0].numbers_E.max() > 50


def test_held_out_events_do_not_change_the_sessions(tmp_path: Path) -> None:
    logs = {"a": watched_events(), "b": with_another_end(watched_events())}
    runs = [opened(write_watched(tmp_path / name, log), tmp_path / f"run {name}") for name, log in logs.items()]
    first, second = (rsft_windows(run) for run in runs)
    assert np.array_equal(first.chosen_E, second.chosen_E)
    assert np.array_equal(first.starts, second.starts)


def refused(tmp_path: Path, events: pl.DataFrame, config: RsftConfig, without: str | None = None) -> str:
    dataset = write_watched(tmp_path / "watched", events, spec_without(without))
    with pytest.raises(UserError) as error:
        rsft_windows(opened(dataset, tmp_path / "run", pathways=False), config)
    return str(error.value)


def test_a_log_without_play_times_or_times_is_refused_by_column(tmp_path: Path) -> None:
    events = watched_events()
    assert "dataset.yaml: events.play_time names no column" in refused(tmp_path / "a", events, GAP, "play_time")
    assert "dataset.yaml: events.time names no column" in refused(tmp_path / "b", events, GAP, "time")
    partly = events.with_columns(played=pl.when(pl.col("user") > 3).then("played"))
    message = refused(tmp_path / "c", partly, RsftConfig(session_events=3))
    assert 'column "played" (events.play_time): empty in' in message
    untimed = events.with_columns(time=pl.when(pl.col("period") != "train").then("time"))
    message = refused(tmp_path / "d", untimed, GAP)
    assert 'column "time" (events.time): empty in' in message and "rsft.session_events" in message
    nothing = "no training target is in a session that RSFT keeps"
    ten = events.with_columns(played=pl.col("played") * 0 + pl.when(pl.col("liked") == 1).then(0).otherwise(10))
    assert nothing in refused(tmp_path / "e", ten, RsftConfig(session_events=1, dropped_share=0.8))


def test_exactly_one_definition_of_a_session_is_required() -> None:
    for settings in ({}, {"session_gap": 1.0, "session_events": 2}):
        with pytest.raises(UserError, match="one of the two"):
            RsftConfig(**settings)  # type: ignore[arg-type]
