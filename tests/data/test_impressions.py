"""Impressions: their parts and labels, where a request's history ends, and windows over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from request_cases import requests_of
from reward_data import HISTORY, LATER, SIGNALS, planted_events, write_planted

from onerec.data.contract import Dataset, DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.data.impressions import (
    EVERYTHING,
    NEXT_ITEM,
    ImpressionLog,
    choose_objectives,
    fit_impression_vocabulary,
    impression_windows,
    parts_of_impressions,
    read_impressions,
    user_draws,
    users_of_half,
)
from onerec.data.requests import UNKNOWN, evaluation_requests
from onerec.data.split import TEST, TRAIN, split_sequences
from onerec.data.stream import fit_vocabulary, make_stream, order_events
from onerec.errors import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted") / "data", planted_events(20))


@pytest.fixture(scope="module")
def log(dataset: Dataset) -> ImpressionLog:
    sequences = split_sequences(dataset, positive="long")
    vocabulary = fit_impression_vocabulary(dataset, sequences, None)
    return read_impressions(dataset, sequences, None, SIGNALS, vocabulary)


def test_all_impressions_are_there_with_their_labels_and_nulls(dataset: Dataset, log: ImpressionLog) -> None:
    assert len(log.parts_E) == dataset.events.height
    assert np.bincount(log.parts_E).tolist() == [20 * HISTORY, 20 * LATER, 20 * LATER]
    np.testing.assert_array_equal(np.isnan(log.labels_EO[:, 0]), log.parts_E == TRAIN)
    for place, name in enumerate(SIGNALS[1:], start=1):
        np.testing.assert_array_equal(log.labels_EO[:, place], dataset.events[name].to_numpy())


def tiny(folder: Path, events: pl.DataFrame, split: str, **columns: str) -> Dataset:
    spec = DatasetSpec(
        name="tiny",
        events=EventColumns(user="user", item="item", signals=["good"], **columns),  # type: ignore[arg-type]
        items=ItemColumns(id="item"),
        split=split,  # type: ignore[arg-type]
    )
    return write_dataset(folder, spec, events, pl.DataFrame({"item": range(9)}))


def parts_by_event(dataset: Dataset, **settings: object) -> list[int]:
    sequences = split_sequences(dataset, positive="good", **settings)  # type: ignore[arg-type]
    order = order_events(dataset, sequences, "all")
    return parts_of_impressions(dataset, sequences, order, None).tolist()


def test_with_leave_one_out_a_part_begins_at_its_target(tmp_path: Path) -> None:
    good = [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]  # the second user is too short for targets
    events = pl.DataFrame({"user": ["a"] * 8 + ["b"] * 2, "item": [0, 1, 2, 3, 4, 5, 6, 7, 0, 1], "good": good})
    assert parts_by_event(tiny(tmp_path / "d", events, "leave_one_out")) == [0, 0, 0, 0, 1, 1, 2, 2, 0, 0]


def test_with_a_split_by_time_all_impressions_are_cut_at_the_same_moments(tmp_path: Path) -> None:
    times = [None, 1, 2, 5, 6, 7, 8, 9, 3, 5, 7]
    good = [0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    events = pl.DataFrame({"user": ["a"] * 8 + ["b"] * 3, "item": [*range(8), 0, 1, 2], "good": good, "time": times})
    dataset = tiny(tmp_path / "d", events, "by_time", time="time")
    # positive ones at 1, 2, 3, 6, 8: three fifths train, one validates
    found = parts_by_event(dataset, fractions=(0.6, 0.2))
    assert found == [0, 0, 0, 0, 1, 1, 2, 2, 0, 0, 1]


def test_objectives_are_signals_or_the_next_item(dataset: Dataset, tmp_path: Path) -> None:
    assert choose_objectives(dataset, "all") == SIGNALS
    assert choose_objectives(dataset, ["like", "click"]) == ["like", "click"]
    one = write_planted(tmp_path / "one", planted_events(3), ["long"])
    assert choose_objectives(one, "all") == [NEXT_ITEM]
    assert choose_objectives(dataset, [NEXT_ITEM]) == [NEXT_ITEM]
    for wrong, words in (
        (["likes"], '"likes" is no signal'),
        ([], "at least one"),
        (["like", "like"], "once"),
        (["like", NEXT_ITEM], "stands alone"),
    ):
        with pytest.raises(UserError, match=words):
            choose_objectives(dataset, wrong)


def test_only_positive_events_have_a_label_for_the_next_item(dataset: Dataset) -> None:
    sequences = split_sequences(dataset, positive="long")
    vocabulary = fit_impression_vocabulary(dataset, sequences, None)
    log = read_impressions(dataset, sequences, None, [NEXT_ITEM], vocabulary)
    np.testing.assert_array_equal(log.labels_EO[:, 0], np.where(dataset.events["long"].to_numpy() == 1, 1, np.nan))


def test_features_are_fitted_before_the_test_part(dataset: Dataset, tmp_path: Path) -> None:
    """A signal that only the test part shows is unknown."""
    shown = pl.col("period") == "test"
    events = dataset.events.with_columns(click=pl.when(shown).then("click"))
    other = write_planted(tmp_path / "other", events)
    sequences = split_sequences(other, positive="long")
    sizes = {column.name: column.size for column in fit_impression_vocabulary(other, sequences, None).event}
    assert sizes["click"] == 1
    assert sizes["long"] == 3


@pytest.mark.parametrize("which", ["positive", "all"])
def test_histories_end_before_the_target_by_event_and_by_stream(
    which: str, dataset: Dataset, log: ImpressionLog
) -> None:
    sequences = split_sequences(dataset, positive="long")
    requests = evaluation_requests(sequences, "test", "all")
    order = order_events(dataset, sequences, which)
    config = EVERYTHING.model_copy(update={"stream": which})
    stream = make_stream(dataset, sequences, order, fit_vocabulary(dataset, config, order))
    users, ends = log.histories_of(requests) or ((), ())
    np.testing.assert_array_equal(log.stream.item_index[ends], requests.targets_C)
    nameless = replace(requests, target_events_C=np.full(len(requests), UNKNOWN))
    again = log.histories_of(replace(nameless, stream=stream, stream_ends_C=order.places_S[requests.target_events_C]))
    assert again is not None
    np.testing.assert_array_equal(again, (users, ends))
    # Of each user one request, with the whole log before it.
    last = np.append(requests.users_C[1:] != requests.users_C[:-1], True)
    of_all = nameless.pick(np.flatnonzero(last))
    at_end = log.histories_of(replace(of_all, stream=stream, stream_ends_C=stream.offsets[of_all.users_C + 1]))
    assert at_end is not None
    np.testing.assert_array_equal(at_end[1], log.stream.offsets[of_all.users_C + 1])
    assert log.histories_of(nameless) is None


def test_a_log_of_items_has_no_features(log: ImpressionLog) -> None:
    requests = requests_of([[7, 8], [9, 1, 2]])
    bare = log.of_items(requests)
    _, batch = next(bare.batches(np.arange(2), requests.history_offsets[1:], np.array([[5], [6]]), 2, 8))
    assert batch.items_BT.tolist() == [[7, 8], [1, 2]]
    assert not batch.features_BTF.any()
    assert not batch.users_BU.any()


def test_halves_are_disjoint_complete_and_stable() -> None:
    ids = pl.Series([f"u{user}" for user in range(2000)])
    first, second = users_of_half(ids, "first"), users_of_half(ids, "second")
    assert (first ^ second).all()
    assert 900 < first.sum() < 1100  # a standard deviation is 22
    assert users_of_half(ids, None).all()
    np.testing.assert_array_equal(users_of_half(ids[::-1], "first"), first[::-1])
    assert abs(np.corrcoef(first, user_draws(ids, "validation"))[0, 1]) < 0.08  # independent; a standard error is .022
    # An id belongs to the same half wherever and whenever it is asked: models on disk depend on it.
    assert np.flatnonzero(users_of_half(ids[:5], "first")).tolist() == [0, 2, 3]


@pytest.mark.parametrize("length", [3, 5, 100])
def test_windows_hold_every_chosen_impression_once_with_its_past(length: int, log: ImpressionLog) -> None:
    draw = np.random.default_rng(0)
    learnt = draw.random(len(log.parts_E)) < 0.5
    windows = impression_windows(log, learnt, length)
    kept = np.flatnonzero(log.parts_E != TEST)
    firsts = log.stream.offsets[:-1]
    expected = sorted(set(np.flatnonzero(learnt & (log.parts_E != TEST))) - set(firsts))
    assert len(windows.item_index) == len(kept) and int(windows.stops.max()) < len(kept)
    batch = windows.batch(np.append(np.arange(len(windows)), -1))
    asked = (~batch.labels_BXO.isnan()).any(dim=-1).nonzero().tolist()
    places = []
    for row, column in asked:
        place = int(kept[windows.starts[row] + column + 1])
        places.append(place)
        count = int(batch.counts_BX[row, column])
        assert batch.items_BT[row, :count].tolist() == log.stream.item_index[place - count : place].tolist()
        features = torch.from_numpy(log.stream.features_EF[place - count : place].astype(np.int64))
        assert torch.equal(batch.features_BTF[row, :count], features)
        assert int(batch.candidates_BX[row, column]) == log.stream.item_index[place]
        np.testing.assert_array_equal(batch.labels_BXO[row, column], log.labels_EO[place])
        user = int(np.searchsorted(log.stream.offsets, place, side="right")) - 1
        assert batch.users_BU[row].tolist() == log.stream.users_UF[user].tolist()
        assert count >= min(place - firsts[user], length / 2 if length > 3 else 1)
    assert sorted(places) == expected
    np.testing.assert_array_equal(windows.target_counts, np.bincount([row for row, _ in asked], minlength=len(windows)))
    assert batch.labels_BXO[-1].isnan().all()
