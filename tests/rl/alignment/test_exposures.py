"""Logged exposures: only training events, with their whole past and the paper's advantages."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched_cases import SPEC, opened, spec_without, watched_events, with_another_end, write_watched

from onerec.data.contract import Dataset, EventColumns, read_dataset
from onerec.data.impressions import parts_of_impressions
from onerec.data.split import TRAIN, split_sequences
from onerec.data.stream import order_events
from onerec.errors import UserError
from onerec.run.run import Run
from rl.alignment import exposures as module
from rl.alignment.exposures import Exposures, logged_advantages, time_batches, training_exposures
from rl.config.alignment import ExposuresConfig
from rl.config.run import config_of
from rl.rewards.duration_aware import duration_aware_advantages

LEARN = ("align.exposures.weight=1", "align.exposures.least=2")
READINGS = {
    "positive items": ("generator.pathways.stream=positive",),
    "positive events": ("generator.pathways.stream=positive", "generator.pathways.event_features=all"),
    "all events": ("generator.pathways.stream=all", "generator.pathways.event_features=all"),
}


def exposures_of(run_folder: Path, dataset: Dataset, *overrides: str) -> tuple[Run, Exposures]:
    run = opened(dataset, run_folder, *LEARN, *overrides, pathways=False)
    return run, training_exposures(run)


def read_before(exposures: Exposures, number: int) -> list[int]:
    """The items that the generator reads before one exposure."""
    prompts = exposures.prompts(np.array([number]))
    if prompts.stream is None or prompts.stream_ends_C is None:
        return prompts.history_items.tolist()
    begin, end = prompts.stream.offsets[prompts.users_C[0]], prompts.stream_ends_C[0]
    return prompts.stream.item_index[begin:end].tolist()


@pytest.mark.parametrize("reads", list(READINGS))
def test_exposures_have_the_papers_advantages_and_their_whole_past(
    reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a walk of the table; batches are short, so that there are several."""
    monkeypatch.setattr(module, "BATCH", 40)
    dataset = write_watched(tmp_path / "watched", watched_events())
    run, found = exposures_of(tmp_path / "run", dataset, *READINGS[reads], "align.exposures.dislike=shared")
    everything = dataset.events.with_row_index("row").to_dicts()
    users = {row["user"] for row in everything if row["liked"]}  # others are in no sequence
    rows = [row for row in everything if row["period"] == "train" and row["user"] in users]
    numbers = {row["row"]: place for place, row in enumerate(sorted(rows, key=lambda row: (row["time"], row["row"])))}
    batches = [min(numbers[row["row"]] // 40, len(rows) // 40 - 1) for row in rows]
    columns = {name: np.array([row[name] for row in rows]) for name in ("user", "played", "long", "shared")}
    plays, disliked = (columns["played"].astype(float), columns["long"].astype(float)), columns["shared"] == 1
    config = config_of(run).align.exposures
    expected = duration_aware_advantages(columns["user"], *plays, disliked, np.array(batches), config)
    assert {-1, 0, 1} == set(expected.tolist()) and len(set(batches)) > 3
    histories = {
        row["row"]: [
            one["item"]
            for one in everything
            if one["user"] == row["user"] and one["row"] < row["row"] and (one["liked"] or reads == "all events")
        ]
        for row in rows
    }
    kept = {
        row["row"]: (row["item"], advantage)
        for row, advantage in zip(rows, expected.tolist(), strict=True)
        if advantage and histories[row["row"]]
    }
    seen = zip(found.rows_X.tolist(), found.items_X.tolist(), found.advantages_X.tolist(), strict=True)
    assert {row: (item, advantage) for row, item, advantage in seen} == kept
    assert len(found) == len(kept)
    assert not all(everything[row]["liked"] for row in kept)  # also what is no positive event
    for number, row in enumerate(found.rows_X.tolist()):
        assert read_before(found, number) == histories[row]
    picked = found.prompts(np.array([5, 0, 3]))
    assert picked.targets_C.tolist() == found.items_X[[5, 0, 3]].tolist()
    assert (picked.stream is None) == (reads == "positive items")


def test_later_events_change_no_exposure(tmp_path: Path) -> None:
    events = watched_events()
    logs = {"a": events, "b": with_another_end(events)}
    for history in ("before", "all"):
        more = (*READINGS["all events"], "align.exposures.dislike=shared", f"align.exposures.history={history}")
        first, second = (
            exposures_of(tmp_path / history / name, write_watched(tmp_path / history / f"log {name}", log), *more)[1]
            for name, log in logs.items()
        )
        for name in ("rows_X", "users_X", "items_X", "advantages_X", "ends_X", "reading_ends_X"):
            assert np.array_equal(getattr(first, name), getattr(second, name))
        assert [read_before(first, one) for one in range(len(first))] == [
            read_before(second, one) for one in range(len(second))
        ]


@pytest.mark.parametrize("split", ["by_time", "leave_one_out"])
def test_other_splits_learn_nothing_from_after_training_either(split: str, tmp_path: Path) -> None:
    events = watched_events().drop("period").with_columns(pl.col("time").shuffle(seed=1)).sort("user", "time")
    spec = spec_without("period").model_copy(update={"split": split})
    run, found = exposures_of(tmp_path / "run", write_watched(tmp_path / "log", events, spec))
    sequences, times = run.sequences, events["time"].to_numpy()
    held_out = sequences.event_rows[sequences.part != TRAIN]
    assert len(found) > 20
    if split == "by_time":
        assert times[found.rows_X].max() < times[held_out].min()
    users = events["user"].to_numpy()
    for row in found.rows_X:
        assert not (held_out[users[held_out] == users[row]] <= row).any()


@given(st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=30), st.integers(1, 8))
def test_batches_follow_each_other_in_time(times: list[int | None], size: int) -> None:
    events = pl.DataFrame({"time": pl.Series(times, dtype=pl.Int64)})
    timed = SPEC.model_copy(update={"events": EventColumns(user="user", item="item", time="time")})
    rows_E = np.random.default_rng(0).permutation(len(times))

    batches = time_batches(SimpleNamespace(spec=timed, events=events), rows_E, size)  # type: ignore[arg-type]
    ordered = sorted(range(len(times)), key=lambda e: (-1 if times[rows_E[e]] is None else times[rows_E[e]], rows_E[e]))
    assert batches[ordered].tolist() == [min(n // size, max(len(times) // size - 1, 0)) for n in range(len(times))]
    untimed = SPEC.model_copy(update={"events": EventColumns(user="user", item="item")})
    in_file = time_batches(SimpleNamespace(spec=untimed, events=events), rows_E, size)  # type: ignore[arg-type]
    assert (np.diff(in_file[np.argsort(rows_E)]) >= 0).all()


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(folder: Path, events: pl.DataFrame, *overrides: str, without: str | None = None) -> str:
    dataset = write_watched(folder / "watched", events, spec_without(without))
    with pytest.raises(UserError) as error:
        exposures_of(folder / "run", dataset, *overrides)
    return str(error.value)


def test_a_log_without_play_times_is_refused_by_file_and_column(tmp_path: Path) -> None:
    events = watched_events()
    needs = "dataset.yaml: the duration-aware reward needs events.play_time and events.duration"
    assert needs in refused(tmp_path / "a", events, without="play_time")
    assert needs in refused(tmp_path / "b", events, without="duration")
    later = pl.col("period") != "train"
    message = refused(tmp_path / "c", events.with_columns(played=pl.when(later).then("played")))
    assert 'events.parquet, column "played" (events.play_time): empty in all' in message
    assert "training events" in message and "align.exposures.weight=0" in message
    message = refused(tmp_path / "d", events.with_columns(long=pl.when(later).then("long").otherwise(0)))
    assert 'column "long" (events.duration): empty or 0 in all' in message
    halves = events.with_columns(
        played=pl.when(pl.col("user") % 2 == 0).then("played"), long=pl.when(pl.col("user") % 2 == 1).then("long")
    )
    assert "no training event has both" in refused(tmp_path / "e", halves)
    assert 'events.signals has no "share"; did you mean' in refused(
        tmp_path / "f", events, "align.exposures.dislike=share"
    )
    message = refused(tmp_path / "g", events, "align.exposures.least=1000")
    assert "has both an advantage and a history" in message and "align.exposures.least (1000)" in message


@pytest.mark.skipif("ONEREC_DATA" not in os.environ, reason="set ONEREC_DATA to the folder that holds kuairand-pure")
def test_kuairands_history_has_no_play_times() -> None:
    dataset = read_dataset(Path(os.environ["ONEREC_DATA"]) / "kuairand-pure")
    sequences = split_sequences(dataset, positive="long_view")
    order = order_events(dataset, sequences, "all")
    rows = order.rows_E[parts_of_impressions(dataset, sequences, order, None) == TRAIN]
    with pytest.raises(UserError, match=r'events\.parquet, column "play_time_ms" \(events\.play_time\): empty in all'):
        logged_advantages(dataset, rows, np.zeros(len(rows), np.int64), ExposuresConfig(), "is_hate")
