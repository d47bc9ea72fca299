"""A log read in pieces gives the very arrays and messages that it gives when one piece holds it all."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerec.data import event_log, mapped_arrays, split
from onerec.data.contract import Dataset, DatasetSpec, check_events, check_tables, read_dataset, read_spec
from onerec.data.event_log import EventLog
from onerec.data.order_statistics import values_at_ranks
from onerec.data.requests import evaluation_requests
from onerec.data.sequence_files import complete_folder, open_sequences
from onerec.data.split import Sequences, split_sequences, training_sequences
from onerec.errors import UserError

ITEMS = pl.DataFrame({"item": list(range(9, -1, -1))})
SPLITS: list[dict[str, Any]] = [
    {"method": method, "positive": positive}
    for method in ("leave_one_out", "by_time", "by_period")
    for positive in (None, "liked")
]


@contextmanager
def rows_at_a_time(rows: int) -> Iterator[None]:
    """Pieces of a few rows, as a log of many millions would have pieces of two million."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "PIECE_ROWS", rows)
        patch.setattr(mapped_arrays, "PIECE_VALUES", rows)
        yield


def spec_of(play_time: bool) -> DatasetSpec:
    events: dict[str, Any] = {"user": "user", "item": "item", "time": "time", "period": "period", "signals": ["liked"]}
    return DatasetSpec.model_validate(
        {"name": "made", "events": events | ({"play_time": "play"} if play_time else {}), "items": {"id": "item"}}
    )


def dataset_of(events: pl.DataFrame, play_time: bool = False) -> Dataset:
    return Dataset(Path("made"), spec_of(play_time), EventLog(events), ITEMS, None, "0")


@st.composite
def logs(draw: Any, in_order: bool = True) -> pl.DataFrame:
    """Interleaved users with a few repeated reports; out of order, anything may be wrong."""
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    user, time, period = (generator.integers(0, kinds, count) for kinds in (6, 8, 3))
    if in_order:
        for one in range(6):
            time[user == one], period[user == one] = np.sort(time[user == one]), np.sort(period[user == one])
    times = pl.Series(time if in_order else [None if one == 7 else int(one) for one in time], dtype=pl.Int64)
    names = np.array(["history", "valid", "test"])
    return pl.DataFrame(
        {
            "user": [f"u{one}" for one in user],
            "item": generator.integers(0, 10 if in_order else 11, count),
            "time": times,
            "period": names[period],
            "liked": generator.integers(0, 2, count).astype(np.int8),
            "play": generator.integers(0, 3, count),
        }
    )


def outcome(work: Any) -> Any:
    """What it gives, or the message it ends with."""
    try:
        return work()
    except UserError as error:
        return str(error)


def same(first: Sequences | str, second: Sequences | str) -> None:
    if isinstance(first, str) or isinstance(second, str):
        assert first == second
        return
    assert first.user_ids.equals(second.user_ids)
    for name in ("item_index", "offsets", "part", "event_rows"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name


@given(logs(), st.integers(1, 12), st.sampled_from(SPLITS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_pieces_make_no_difference_to_sequences(
    events: pl.DataFrame, rows: int, asked: dict[str, Any], play_time: bool
) -> None:
    dataset = dataset_of(events, play_time)
    whole = outcome(lambda: split_sequences(dataset, **asked))
    with rows_at_a_time(rows):
        same(whole, outcome(lambda: split_sequences(dataset, **asked)))
        if isinstance(whole, str):
            return
        in_pieces = training_sequences(whole), evaluation_requests(whole, "test", "all")
    assert all(map(np.array_equal, in_pieces[0], training_sequences(whole)))
    assert np.array_equal(in_pieces[1].history_items, evaluation_requests(whole, "test", "all").history_items)


@given(logs(in_order=False), st.integers(1, 12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_pieces_make_no_difference_to_messages(events: pl.DataFrame, rows: int, play_time: bool) -> None:
    def check() -> None:
        check_tables(Path("made"), spec_of(play_time), EventLog(events), ITEMS, None)

    whole = outcome(check)
    with rows_at_a_time(rows):
        assert outcome(check) == whole


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_values_at_ranks_are_those_of_the_sorted_column(data: Any) -> None:
    kind = data.draw(st.sampled_from([st.integers(-5, 5), st.floats(-1e9, 1e9), st.datetimes()]))
    pieces = data.draw(st.lists(st.lists(st.none() | kind, max_size=60), min_size=1, max_size=5))
    values = sorted(value for piece in pieces for value in piece if value is not None)
    if not values:
        return
    ranks = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    dtype = pl.Series(values).dtype
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onerec.data.order_statistics.SAMPLES", data.draw(st.integers(1, 8)))
        found = values_at_ranks(lambda: [pl.Series(piece, dtype=dtype) for piece in pieces], ranks)
    assert found == [values[rank] for rank in ranks]


def written(folder: Path, users: int, events: int) -> Path:
    """A folder whose log interleaves its users."""
    user = np.random.default_rng(0).integers(0, users, events)
    folder.mkdir()
    table = pl.DataFrame({"user": user, "item": np.arange(events) % 10, "time": np.arange(events)})
    table.write_parquet(folder / "events.parquet", row_group_size=1000)
    ITEMS.write_parquet(folder / "items.parquet")
    columns = "events: {user: user, item: item, time: time}\nitems: {id: item}\n"
    (folder / "dataset.yaml").write_text(f"name: made\n{columns}")
    return folder


def test_no_more_rows_are_in_memory_than_a_piece_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, checking and splitting: nothing that polars hands over is longer, slices of users by their luck of the hash."""
    heights: list[int] = []
    collect = EventLog._collect

    def watched(self: EventLog, table: pl.LazyFrame) -> pl.DataFrame:
        found = collect(self, table)
        heights.append(found.height)
        return found

    monkeypatch.setattr(EventLog, "_collect", watched)
    folder = written(tmp_path / "log", users=2000, events=20_000)
    with rows_at_a_time(1000):
        dataset = read_dataset(folder)
        sequences = split_sequences(dataset, method="by_time")
    assert sequences.offsets[-1] == 20_000
    assert len(heights) > 60 and max(heights) < 1300
    assert "events" not in vars(dataset)  # the property that reads all


def test_what_grows_with_events_lies_in_files(tmp_path: Path) -> None:
    """Beside pieces, splitting into a folder takes no array as long as the log."""
    folder = written(tmp_path / "log", users=50, events=200_000)
    (tmp_path / "made").mkdir()
    with rows_at_a_time(2000):
        dataset = read_dataset(folder)
        tracemalloc.start()
        sequences = split_sequences(dataset, folder=tmp_path / "made")
        complete_folder(sequences, tmp_path / "made")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200_000 * 4  # numpy's share; a single int32 of every event would be as much
    stored, training = open_sequences(tmp_path / "made")
    same(stored, split_sequences(dataset))
    assert all(map(np.array_equal, training, training_sequences(stored)))
    assert not stored.item_index.flags.writeable


def test_files_that_are_not_there_are_missing_and_broken_ones_are_broken(tmp_path: Path) -> None:
    folder = written(tmp_path / "log", users=5, events=50)
    data = bytearray((folder / "events.parquet").read_bytes())
    with pytest.raises(UserError, match="missing"):
        EventLog.of_file(tmp_path / "none.parquet")
    log = EventLog.of_file(folder / "events.parquet")
    data[4:200] = bytes(196)  # the footer stays whole
    (folder / "events.parquet").write_bytes(data)
    with pytest.raises(UserError, match="broken, or not a Parquet file"):
        check_events(folder / "events.parquet", read_spec(folder / "dataset.yaml"), log)


def test_a_full_disk_is_told_before_the_array_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"part.npy: no room for 10 bytes \(No space left on device\)"):
        mapped_arrays.new_array(tmp_path, "part", 10, np.int8)
    assert split.new_array(None, "part", 10, np.int8).sum() == 0
