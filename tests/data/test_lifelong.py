"""All events from before a window as representatives: nothing is lost, nothing leaks, a hundred thousand events stay cheap."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerec.data import lifelong as module
from onerec.data.lifelong import LifelongConfig, LifelongReader, LifelongSource, Representatives
from onerec.data.requests import Requests
from onerec.data.stream import Stream, training_stream
from onerec.errors import UserError

ITEMS = 200


def make_reader(events: int, config: LifelongConfig, items: int = ITEMS, seed: int = 0) -> LifelongReader:
    """A log of so many events with a category and a number as features, over items with random vectors."""
    draw = np.random.default_rng(seed)
    vectors_NW = draw.normal(size=(items, 5)).astype(np.float32)
    features_EF = np.stack([draw.integers(0, 3, size=events), draw.integers(0, 17, size=events)], axis=1)
    source = LifelongSource(config, vectors_NW, np.array([False, True]))
    return LifelongReader(source, draw.integers(0, items, size=events), features_EF.astype(np.int16))


def config_of(representatives: int, events: int = 100_000) -> LifelongConfig:
    return LifelongConfig(events=events, representatives=representatives, tokens=4)


@given(st.integers(0, 30), st.integers(0, 500), st.integers(1, 90))
def test_representatives_stand_for_every_event_once(begin: int, count: int, most: int) -> None:
    """Their number is bounded, their events add up, each is shown as one of its own, and ages are means of distances."""
    reader = make_reader(600, config_of(most))
    found = reader.representatives(begin, begin + count)
    assert len(found.places_K) <= most
    assert found.events_K.sum() == count
    assert ((found.places_K >= begin) & (found.places_K < begin + count)).all()
    assert len(np.unique(found.places_K)) == len(found.places_K)
    assert (found.ages_K * found.events_K).sum() == pytest.approx(count * (count + 1) / 2, rel=1e-5)
    assert (found.ages_K >= 1).all()


def test_few_events_stand_for_themselves() -> None:
    reader = make_reader(100, config_of(40))
    found = reader.representatives(10, 50)
    assert found.places_K.tolist() == list(range(10, 50))
    assert (found.events_K == 1).all()
    assert np.array_equal(found.features_KF, reader.features_EF[10:50])
    assert found.ages_K.tolist() == list(range(40, 0, -1))


def test_categories_are_the_newest_events_and_numbers_are_averaged() -> None:
    """Two items whose vectors are far apart, two clusters: every event of an item is in its cluster."""
    source = LifelongSource(config_of(2), np.array([[0.0], [9.0]], np.float32), np.array([False, True]))
    features_EF = np.array([[1, 4], [2, 7], [1, 0], [2, 9], [1, 3]], np.int16)
    reader = LifelongReader(source, np.array([0, 1, 0, 1, 0]), features_EF)
    found = reader.representatives(0, 5)
    assert found.places_K.tolist() == [4, 3]
    assert found.events_K.tolist() == [3, 2]
    assert found.ages_K.tolist() == [3.0, 3.0]
    assert found.features_KF.tolist() == [[1, 4], [2, 8]]  # (4 + 3) / 2 to the even one, unknown left out; (7 + 9) / 2


def test_likely_items_share_a_cluster() -> None:
    vectors_NW = np.repeat(np.eye(4, dtype=np.float32) * 9, 10, axis=0)  # ten items on each of four corners
    vectors_NW += np.random.default_rng(0).normal(size=vectors_NW.shape).astype(np.float32) * 0.1
    source = LifelongSource(config_of(4), vectors_NW, np.zeros(0, bool))
    reader = LifelongReader(source, np.arange(40), np.zeros((40, 0), np.int16))
    found = reader.representatives(0, 40)
    assert sorted((reader.item_index[found.places_K] // 10).tolist()) == [0, 1, 2, 3]
    assert found.events_K.tolist() == [10, 10, 10, 10]


def test_no_more_events_are_read_than_the_config_allows() -> None:
    reader = make_reader(900, config_of(20, events=300))
    for start in (300, 700, 703, 899):
        found = reader.representatives(0, start)
        assert 300 - 5 <= found.events_K.sum() <= 300
        assert found.places_K.min() >= start - 300


@pytest.mark.parametrize("start", [30, 300, 303, 377])
def test_events_from_the_window_on_change_nothing(start: int) -> None:
    reader = make_reader(600, config_of(20))
    other = make_reader(600, config_of(20))
    other.item_index[start:] = (other.item_index[start:] + 7) % ITEMS
    other.features_EF[start:] = 1
    assert_equal(reader.representatives(0, start), other.representatives(0, start))
    shorter = LifelongReader(reader.source, reader.item_index[:start], reader.features_EF[:start])
    assert_equal(reader.representatives(0, start), shorter.representatives(0, start))


def test_what_is_read_depends_on_the_user_alone() -> None:
    """The same events at another place of the log, behind another user's, with another order of asking."""
    reader = make_reader(500, config_of(20))
    moved = LifelongReader(
        reader.source,
        np.concatenate([np.zeros(123, int), reader.item_index]),
        np.concatenate([np.zeros((123, 2), np.int16), reader.features_EF]),
    )
    moved.representatives(123, 623)
    for start in (400, 40, 403):
        found = moved.representatives(123, 123 + start)
        assert_equal(reader.representatives(0, start), replace(found, places_K=found.places_K - 123))


def assert_equal(one: Representatives, other: Representatives) -> None:
    for name in one.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_windows_between_two_boundaries_share_a_clustering(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, reader = [], make_reader(600, config_of(40))
    cluster = module.hierarchical_kmeans
    monkeypatch.setattr(module, "hierarchical_kmeans", lambda *args, **rest: runs.append(0) or cluster(*args, **rest))
    for start in range(400, 450):  # five boundaries, ten events apart
        reader.read(np.zeros(2, int), np.array([start, start]))
    assert len(runs) == 5


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 3000)
    reader = make_reader(600, config_of(40))
    fresh = make_reader(600, config_of(40))
    for start in (*range(400, 500, 10), 400):
        assert_equal(
            reader.representatives(0, start), fresh._cluster(0, start, 31).followed_by(fresh._themselves(0, 0))
        )
        assert reader._kept_bytes == sum(found.bytes for found in reader._kept.values()) <= 3000
    assert len(reader._kept) >= 2


def test_rows_of_a_batch_are_padded_on_the_right() -> None:
    reader = make_reader(600, config_of(40))
    made = reader.read(np.array([0, 100, 300]), np.array([0, 103, 600]))
    assert made.filled_BR.sum(dim=1).tolist() == [0, 3, len(reader.representatives(300, 600).places_K)]
    assert made.items_BR[1, :3].tolist() == reader.item_index[100:103].tolist()
    assert made.amounts_BR2[1, :3].tolist() == [[0.25, 0.5], [0.25, pytest.approx(np.log2(3) / 4)], [0.25, 0.25]]
    for part in (made.items_BR, made.features_BRF, made.amounts_BR2):
        assert not part[1, 3:].any()


def test_training_and_inference_read_the_same_past() -> None:
    """The stream that training sees ends earlier, and users stand elsewhere in it; windows that start alike read alike."""
    reader, offsets = make_reader(600, config_of(20)), np.array([0, 250, 600])
    targets_E, users_UF = np.ones(600, bool), np.zeros((2, 0), np.int32)
    stream = Stream(reader.item_index, offsets, targets_E, reader.features_EF, users_UF, reader.source)
    trained_E = np.ones(600, bool)
    trained_E[[240, 241, 242, 243, 244, 245, 246, 247, 248, 249, 599]] = False
    part = training_stream(stream, trained_E)
    asked = Requests.of_histories(stream.item_index[250:555], np.array([0, 305]))
    asked = replace(asked, users_C=np.array([1]), stream=stream, stream_ends_C=np.array([555]))
    ((_, batch),) = asked.batches(length=10, earlier_positives=0, batch_size=1)
    starts_B = np.array([240 + (545 - 250)])
    trained = part.context_features(starts_B[:, None], starts_B, np.array([1]), 0).lifelong
    assert batch.context_features is not None
    assert batch.context_features.lifelong is not None
    assert trained is not None
    for name in trained.__dataclass_fields__:
        assert (getattr(trained, name) == getattr(batch.context_features.lifelong, name)).all(), name


def test_a_hundred_thousand_events_take_bounded_time_and_memory() -> None:
    """Of 30,000 items, so that most return. Seconds are the processor's, with room for a slow one that traces memory."""
    draw, events, items = np.random.default_rng(0), 100_000, 30_000
    vectors_NW = draw.normal(size=(items, 16)).astype(np.float32)
    source = LifelongSource(LifelongConfig(), vectors_NW, np.array([True]))
    reader = LifelongReader(
        source, draw.integers(0, items, size=events), draw.integers(0, 17, size=(events, 1)).astype(np.int16)
    )
    tracemalloc.start()
    began = time.process_time()
    found = reader.representatives(0, events - 1)
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.events_K.sum() == events - 1
    assert 1900 <= len(found.places_K) <= 2000
    assert found.bytes < 100_000
    assert peak < 64e6
    assert seconds < 20
    again = time.process_time()
    reader.representatives(0, events - 2)
    assert time.process_time() - again < 0.1


def test_ids_without_content_are_refused() -> None:
    with pytest.raises(UserError, match="hold none"):
        LifelongSource(LifelongConfig(), np.zeros((5, 1), np.float32), np.zeros(0, bool))
