"""The stream against a plain-Python account of it: which events, which targets, what a case may read."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_cases import histories_of

from onerec.data.contract import Dataset, DatasetSpec
from onerec.data.event_log import EventLog
from onerec.data.features import PathwaysConfig
from onerec.data.requests import evaluation_requests
from onerec.data.split import Sequences, split_sequences, training_sequences
from onerec.data.stream import Stream, fit_vocabulary, make_stream, order_events, stream_windows, training_stream
from onerec.data.windows import every_position_windows

SPEC = DatasetSpec.model_validate(
    {
        "name": "made up",
        "events": {"user": "user", "item": "item", "time": "time", "signals": ["liked"], "play_time": "played"},
        "items": {"id": "item"},
    }
)


def logged(events: list[tuple[int, int, int | None, int]]) -> Dataset:
    """A dataset of (user, item, time, liked)."""
    table = pl.DataFrame(
        events, schema={"user": pl.Int64, "item": pl.Int64, "time": pl.Int64, "liked": pl.Int8}, orient="row"
    ).with_columns(played=0)
    return Dataset(Path("folder"), SPEC, EventLog(table), pl.DataFrame({"item": range(40)}), None, "")


def streamed(dataset: Dataset, which: str = "all") -> tuple[Sequences, Stream, np.ndarray, np.ndarray]:
    """Sequences, stream, which events are trained on, and places of the sequences' events."""
    sequences = split_sequences(dataset, positive="liked")
    order = order_events(dataset, sequences, which)
    config = PathwaysConfig(event_features=["signals"])
    stream = make_stream(dataset, sequences, order, fit_vocabulary(dataset, config, order))
    return sequences, stream, order.trained_E, order.places_S


# Interleaved users, every event at a time of its own; at least one is liked.
logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 39), st.integers(0, 1)), min_size=1, max_size=80).map(
    lambda rows: logged([(user, item, time, liked) for time, (user, item, liked) in enumerate([*rows, (0, 0, 1)])])
)


@given(logs)
def test_all_events_of_users_with_a_positive_one_stand_in_their_order(dataset: Dataset) -> None:
    sequences, stream, _, places = streamed(dataset)
    expected = []
    for user in sequences.user_ids:
        expected += dataset.events.filter(pl.col("user") == user).select("item", "liked").rows()
    assert list(zip(stream.item_index.tolist(), stream.is_target_E.astype(int).tolist(), strict=True)) == expected
    assert np.array_equal(stream.item_index[places], sequences.item_index)
    assert stream.is_target_E[places].all()


@given(logs, st.integers(1, 9), st.booleans())
def test_every_training_target_counts_once_and_nothing_else_does(dataset: Dataset, length: int, causal: bool) -> None:
    sequences, stream, trained, places = streamed(dataset)
    part = training_stream(stream, trained)
    windows = stream_windows(part, length, causal=causal, earlier_positives=0)
    expected = sorted(
        (int(stream.item_index[place - 1]), int(stream.item_index[place]))
        for place, user, part_of in zip(
            places, np.repeat(np.arange(sequences.user_count), np.diff(sequences.offsets)), sequences.part, strict=True
        )
        if part_of == 0 and place > stream.offsets[user]
    )
    if not len(windows):
        assert expected == []
        return
    batch = windows.batch(np.arange(len(windows)))
    counted = batch.counted_BT.numpy()
    found = zip(batch.items_BT.numpy()[counted].tolist(), batch.targets_BT.numpy()[counted].tolist(), strict=True)
    assert sorted(found) == expected
    assert counted.sum(axis=1).tolist() == windows.target_counts.tolist()
    assert (windows.target_counts > 0).all()


@given(logs)
def test_training_ends_with_the_last_training_target(dataset: Dataset) -> None:
    sequences, stream, trained, _ = streamed(dataset)
    part = training_stream(stream, trained)
    items, offsets = training_sequences(sequences)
    assert np.array_equal(part.item_index[part.is_target_E], items)
    for user in range(sequences.user_count):
        begin, end = part.offsets[user : user + 2]
        assert part.is_target_E[begin:end].sum() == offsets[user + 1] - offsets[user]
        assert begin == end or part.is_target_E[end - 1]


@given(logs, st.sampled_from(["valid", "test"]))
def test_a_request_reads_every_event_before_its_target(dataset: Dataset, part: str) -> None:
    sequences, stream, _, _ = streamed(dataset)
    plain = evaluation_requests(sequences, part, "first")  # type: ignore[arg-type]
    asked = plain.reading(stream, order_events(dataset, sequences, "all"))
    assert asked.stream is stream and asked.stream_ends_C is not None
    assert np.array_equal(stream.item_index[asked.stream_ends_C], asked.targets_C)
    for user, end, history in zip(asked.users_C, asked.stream_ends_C, histories_of(asked), strict=True):
        read = slice(stream.offsets[user], end)
        assert stream.item_index[read][stream.is_target_E[read]].tolist() == history


def test_a_stream_of_positive_events_gives_the_windows_of_the_sequences() -> None:
    draw = np.random.default_rng(0)
    rows = [(int(draw.integers(4)), int(draw.integers(40)), time, int(draw.integers(2))) for time in range(200)]
    sequences, stream, trained, _ = streamed(logged(rows), "positive")
    windows = stream_windows(training_stream(stream, trained), 7, causal=True, earlier_positives=0)
    plain = every_position_windows(*training_sequences(sequences), 7)
    assert np.array_equal(windows.target_counts, plain.target_counts)
    rows_W = np.array([*range(len(plain)), -1])
    made, expected = windows.batch(rows_W), plain.batch(rows_W)
    for name in ("items_BT", "targets_BT", "counted_BT", "lengths_B"):
        assert (getattr(made, name) == getattr(expected, name)).all(), name


def test_of_several_reports_of_an_impression_only_the_positive_one_is_read() -> None:
    """The report before the target would name it; the one behind it would be a history event that never was."""
    events = [(0, 5, 1, 1), (0, 6, 2, 0), (0, 6, 2, 1), (0, 6, 2, 0), (0, 7, 3, 0), (0, 7, 3, 0), (0, 8, 4, 1)]
    _, stream, _, _ = streamed(logged(events))
    assert stream.item_index.tolist() == [5, 6, 7, 8]
    assert stream.is_target_E.tolist() == [True, True, False, True]


def test_events_without_a_time_are_never_reports_of_one_another() -> None:
    _, stream, _, _ = streamed(logged([(0, 5, None, 1), (0, 5, None, 0), (0, 5, None, 1)]))
    assert stream.item_index.tolist() == [5, 5, 5]


@pytest.mark.parametrize("earlier", [0, 1, 3])
def test_earlier_positives_end_before_the_window(earlier: int) -> None:
    events = [(0, item, item, int(item % 3 != 1)) for item in range(20)]
    _, stream, _, _ = streamed(logged(events))
    features = stream.context_features(np.array([[10, 11], [0, 1]]), np.array([10, 0]), np.array([0, 0]), earlier)
    liked = [item for item in range(10) if item % 3 != 1]
    assert features.positive_items_BP[0][features.positive_filled_BP[0]].tolist() == liked[len(liked) - earlier :]
    assert not features.positive_filled_BP[1].any()
    assert features.positive_filled_BP.shape[1] == earlier


@given(logs)
def test_a_stream_without_features_of_events_is_the_same_stream(dataset: Dataset) -> None:
    sequences, stream, trained, _ = streamed(dataset)
    order = order_events(dataset, sequences, "all")
    plain = make_stream(dataset, sequences, order, fit_vocabulary(dataset, PathwaysConfig(), order))
    np.testing.assert_array_equal(plain.item_index, stream.item_index)
    assert plain.features_EF.shape == (len(stream.item_index), 0)
    kept = training_stream(plain, trained)
    windows = stream_windows(kept, 5, causal=True, earlier_positives=3)
    if len(windows):
        batch = windows.batch(np.arange(len(windows)))
        assert batch.context_features is not None and batch.context_features.features_BTF.shape == (
            *batch.items_BT.shape,
            0,
        )
