"""Splits against a slow reference in plain Python, and what must hold for every split."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from request_cases import histories_of

from onerec.data.contract import Dataset, DatasetSpec
from onerec.data.event_log import EventLog
from onerec.data.requests import evaluation_requests
from onerec.data.split import (
    TEST,
    TRAIN,
    VALID,
    Sequences,
    held_out_pairs,
    rows_of,
    split_sequences,
    training_sequences,
)
from onerec.errors import UserError

PERIOD_NAMES = ["history", "valid", "test"]


def dataset_of(
    rows: list[tuple[int, int, int, int, int]], play_time: bool = False, order: str | None = None
) -> Dataset:
    """rows: user, item, time, period (0 to 2), signal. The item table lists ids 100 to 119 backwards."""
    events = pl.DataFrame(
        {
            "user": [f"u{row[0]}" for row in rows],
            "item": [row[1] + 100 for row in rows],
            "time": [row[2] for row in rows],
            "period": [PERIOD_NAMES[row[3]] for row in rows],
            "liked": [row[4] for row in rows],
            "play": [0 for _ in rows],
        }
    )
    spec = DatasetSpec.model_validate(
        {
            "name": "generated",
            "events": {"user": "user", "item": "item", "time": "time", "period": "period", "signals": ["liked"]}
            | ({"play_time": "play"} if play_time else {})
            | ({"order": order} if order else {}),
            "items": {"id": "item"},
        }
    )
    return Dataset(
        Path("generated"), spec, EventLog(events), pl.DataFrame({"item": list(range(119, 99, -1))}), None, "0"
    )


@st.composite
def logs(draw: Any) -> list[tuple[int, int, int, int, int]]:
    """Interleaved users; within each, times and periods never fall."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    waiting = []
    for user, length in enumerate(lengths):
        times = sorted(draw(st.lists(st.integers(0, 20), min_size=length, max_size=length)))
        periods = sorted(draw(st.lists(st.integers(0, 2), min_size=length, max_size=length)))
        items = draw(st.lists(st.integers(0, 19), min_size=length, max_size=length))
        signals = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
        waiting.append([(user, *row) for row in zip(items, times, periods, signals, strict=True)])
    turns = draw(st.permutations([user for user, length in enumerate(lengths) for _ in range(length)]))
    return [waiting[user].pop(0) for user in turns]


def reference(
    rows: list[tuple[int, int, int, int, int]], method: str, positive: bool, cuts: tuple[int, int]
) -> dict[str, list[tuple[int, int]]]:
    """user → [(row of the item table, part)], in order of first appearance."""
    sequences: dict[str, list[tuple[int, int]]] = {}
    for user, item, time, period, signal in rows:
        if positive and not signal:
            continue
        if method == "by_period":
            part = period
        else:
            part = 2 if time >= cuts[1] else 1 if time >= cuts[0] else 0
        sequences.setdefault(f"u{user}", []).append((19 - item, part))
    if method == "leave_one_out":
        for user, events in sequences.items():
            last = len(events) - 1 if len(events) >= 3 else len(events) + 5
            sequences[user] = [
                (item, 2 if place == last else 1 if place == last - 1 else 0) for place, (item, _) in enumerate(events)
            ]
    return sequences


def as_lists(sequences: Sequences) -> dict[str, list[tuple[int, int]]]:
    result = {}
    for number, user in enumerate(sequences.user_ids):
        mine = slice(sequences.offsets[number], sequences.offsets[number + 1])
        result[user] = list(zip(sequences.item_index[mine].tolist(), sequences.part[mine].tolist(), strict=True))
    return result


@settings(max_examples=150, deadline=None)
@given(logs(), st.sampled_from(["leave_one_out", "by_time", "by_period"]), st.booleans(), st.data())
def test_equals_slow_reference(
    rows: list[tuple[int, int, int, int, int]], method: str, positive: bool, data: st.DataObject
) -> None:
    if positive and not any(row[4] for row in rows):
        return
    low, high = sorted((data.draw(st.integers(0, 21)), data.draw(st.integers(0, 21))))
    cuts = (low, high) if method == "by_time" else None
    sequences = split_sequences(dataset_of(rows), method=method, positive="liked" if positive else None, cuts=cuts)
    expected = reference(rows, method, positive, (low, high))
    assert as_lists(sequences) == expected
    assert list(as_lists(sequences)) == list(expected)
    assert sequences.item_index.dtype == np.int32 and sequences.part.dtype == np.int8

    train_items, train_offsets = training_sequences(sequences)
    for number, events in enumerate(expected.values()):
        mine = train_items[train_offsets[number] : train_offsets[number + 1]].tolist()
        assert mine == [item for item, part in events if part == 0]

    for part, code in (("valid", 1), ("test", 2)):
        for which in ("first", "all"):
            wanted, dropped = reference_requests(list(expected.values()), code, which == "first")
            asked = evaluation_requests(sequences, part, which)  # type: ignore[arg-type]
            users, targets = asked.users_C.tolist(), asked.targets_C.tolist()
            assert list(zip(users, histories_of(asked), targets, strict=True)) == wanted
            assert asked.dropped == dropped
            assert sequences.item_index[asked.target_events_C].tolist() == targets
            assert np.isin(sequences.part[asked.target_events_C], code).all()


def reference_requests(
    users: list[list[tuple[int, int]]], code: int, first: bool
) -> tuple[list[tuple[int, list[int], int]], int]:
    requests, dropped = [], 0
    for number, events in enumerate(users):
        for place, (item, part) in enumerate(events):
            if part != code:
                continue
            if place:
                requests.append((number, [other for other, _ in events[:place]], item))
            else:
                dropped += 1
            if first:
                break
    return requests, dropped


@settings(max_examples=60, deadline=None)
@given(logs())
def test_by_time_fractions_cut_everyone_at_the_same_moments(rows: list[tuple[int, int, int, int, int]]) -> None:
    dataset = dataset_of(rows)
    sequences = split_sequences(dataset, method="by_time", fractions=(0.5, 0.25))
    order = np.argsort(rows_of(dataset.events["user"], sequences.user_ids), kind="stable")
    times = dataset.events["time"].to_numpy()[order]
    groups = [times[sequences.part == part] for part in range(3)]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if len(groups[earlier]) and len(groups[later]):
            assert groups[earlier].max() < groups[later].min()
    assert len(groups[0]) <= 0.5 * len(rows)
    assert len(groups[0]) + len(groups[1]) <= 0.75 * len(rows)


def test_by_time_default_shares() -> None:
    rows = [(user, time % 20, time * 3 + user, 0, 0) for user in range(10) for time in range(100)]
    part = split_sequences(dataset_of(rows), method="by_time").part
    assert np.bincount(part).tolist() == pytest.approx([800, 100, 100], abs=10)


def test_events_without_a_time_are_the_oldest() -> None:
    dataset = dataset_of([(0, item, item, 0, 0) for item in range(10)])
    events = dataset.events.with_columns(pl.when(pl.col("time") < 4).then(None).otherwise(pl.col("time")).alias("time"))
    dataset = replace(dataset, log=EventLog(events))
    assert split_sequences(dataset, method="by_time").part.tolist() == [0] * 8 + [1, 2]
    with pytest.raises(UserError, match=r"4 of 10 events have no time.*cuts"):
        split_sequences(dataset, method="by_time", fractions=(0.3, 0.3))


def test_datetime_cuts() -> None:
    dataset = dataset_of([(0, item, item, 0, 0) for item in range(4)])
    days = pl.Series("time", [datetime(2024, 1, day) for day in (1, 2, 3, 4)])
    dataset = replace(dataset, log=EventLog(dataset.events.with_columns(days)))
    cuts = (datetime(2024, 1, 3), datetime(2024, 1, 4))
    assert split_sequences(dataset, method="by_time", cuts=cuts).part.tolist() == [0, 0, 1, 2]
    with pytest.raises(UserError, match="own unit"):
        split_sequences(dataset, method="by_time", cuts=(3, 4))


def test_an_impression_logged_twice_counts_once() -> None:
    rows = [(0, 1, 1, 0, 1), (0, 2, 5, 0, 0), (0, 2, 5, 0, 1), (0, 3, 6, 0, 1), (0, 3, 6, 0, 1)]
    sequences = split_sequences(dataset_of(rows, play_time=True), method="leave_one_out")
    assert sequences.item_index.tolist() == [18, 17, 16]
    # The filter comes first: one positive report of two is enough.
    liked = split_sequences(dataset_of(rows, play_time=True), method="leave_one_out", positive="liked")
    assert liked.item_index.tolist() == [18, 17, 16]


def test_sets_have_no_next_item() -> None:
    rows = [(0, 1, 1, 0, 1), (0, 2, 5, 2, 0), (0, 3, 5, 0, 1)]
    dataset = dataset_of(rows, order="none; sets")
    for method in ("leave_one_out", "by_time"):
        with pytest.raises(UserError, match=r'needs an order, but events\.order is "none"; use by_period'):
            split_sequences(dataset, method=method)
    sequences = split_sequences(dataset, method="by_period")
    assert training_sequences(sequences)[0].tolist() == [18, 16]
    with pytest.raises(UserError, match="no next item"):
        evaluation_requests(sequences, "test", "all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "leave_one_uot"}, 'did you mean "leave_one_out"'),
        ({"positive": "likd"}, 'signals has no "likd"; did you mean "liked"'),
        ({"positive": "liked"}, "never 1"),
        ({"method": "by_time", "cuts": (9, 3)}, "validation must begin before"),
        ({"method": "by_time", "fractions": (0.9, 0.2)}, "leave some for test"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_sequences(dataset_of([(0, 1, 1, 0, 0), (0, 2, 2, 0, 0)]), **arguments)


def users_with_parts(ordered: bool) -> Sequences:
    """Four users, two of whom have both training and validation events; items are 0, 1, 2 … in the order of the file."""
    users = [[TRAIN, TRAIN, VALID, TEST], [TRAIN], [TRAIN, TRAIN, TRAIN, VALID, VALID, TEST], [VALID, TEST]]
    part = np.concatenate([np.asarray(user, dtype=np.int8) for user in users])
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])])
    return Sequences(pl.Series(range(len(users))), np.arange(len(part), dtype=np.int32), offsets, part, ordered)


def test_held_out_pairs_are_the_last_training_and_the_first_validation_item() -> None:
    assert held_out_pairs(users_with_parts(ordered=True), seed=0).tolist() == [[1, 2], [7, 8]]


def test_held_out_pairs_of_sets_are_drawn_from_the_same_parts() -> None:
    drawn = [held_out_pairs(users_with_parts(ordered=False), seed).tolist() for seed in range(40)]
    assert {pairs[0][0] for pairs in drawn} == {0, 1}
    assert {pairs[1][0] for pairs in drawn} == {5, 6, 7}
    assert {pairs[1][1] for pairs in drawn} == {8, 9}
    assert {pairs[0][1] for pairs in drawn} == {2}
    assert drawn[3] == held_out_pairs(users_with_parts(ordered=False), 3).tolist()
