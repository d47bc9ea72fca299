"""Requests against plain Python: picking, batches of items and of a stream, seen items, and which requests there are."""

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_cases import Histories, flat, histories_of, requests_of

from onerec.data.requests import Requests, evaluation_requests, requests_at, requests_before
from onerec.data.split import Sequences
from onerec.data.stream import Stream
from onerec.errors import UserError

histories = st.lists(st.lists(st.integers(0, 30), max_size=9), min_size=1, max_size=7).filter(any)
seeds = st.integers(0, 10_000)


def make_stream(draw: np.random.Generator) -> Stream:
    """Up to five users with some events each, of which about half are positive and one is for sure."""
    offsets = np.concatenate([[0], np.cumsum(draw.integers(1, 10, size=draw.integers(1, 6)))])
    events = int(offsets[-1])
    is_target_E = draw.random(events) < 0.5
    is_target_E[draw.integers(events)] = True
    features_EF = draw.integers(0, 5, size=(events, 2)).astype(np.int16)
    users_UF = draw.integers(0, 5, size=(len(offsets) - 1, 3)).astype(np.int32)
    return Stream(draw.integers(0, 40, size=events).astype(np.int32), offsets, is_target_E, features_EF, users_UF)


def streamed_requests(seed: int) -> Requests:
    """Requests of random users, each with a history that ends somewhere among the user's events."""
    draw = np.random.default_rng(seed)
    stream = make_stream(draw)
    users = draw.integers(len(stream.offsets) - 1, size=draw.integers(1, 8)).astype(np.int32)
    ends = draw.integers(stream.offsets[users], stream.offsets[users + 1] + 1)
    read = [slice(stream.offsets[user], end) for user, end in zip(users, ends, strict=True)]
    asked = requests_of([stream.item_index[part][stream.is_target_E[part]].tolist() for part in read])
    targets, events = draw.integers(-1, 40, len(users)), draw.integers(-1, 99, len(users))
    return replace(
        asked,
        users_C=users,
        targets_C=targets.astype(np.int32),
        target_events_C=events.astype(np.int64),
        stream=stream,
        stream_ends_C=ends,
        dropped=3,
    )


def test_of_histories_nothing_else_is_known() -> None:
    asked = requests_of([[4, 2], [], [7]])
    assert len(asked) == 3
    assert asked.history_lengths_C.tolist() == [2, 0, 1]
    for name in ("users_C", "targets_C", "target_events_C"):
        assert getattr(asked, name).tolist() == [-1, -1, -1]
    assert (asked.stream, asked.stream_ends_C, asked.dropped) == (None, None, 0)


@given(seeds, st.data())
def test_picked_requests_are_those_of_the_numbers_in_their_order(seed: int, data: st.DataObject) -> None:
    asked = streamed_requests(seed)
    rows = data.draw(st.lists(st.integers(0, len(asked) - 1), max_size=9))
    for whole in (asked, replace(asked, stream=None, stream_ends_C=None)):
        picked = whole.pick(np.array(rows, dtype=np.int64))
        assert histories_of(picked) == [histories_of(whole)[row] for row in rows]
        for name in ("users_C", "targets_C", "target_events_C", "stream_ends_C"):
            before, after = getattr(whole, name), getattr(picked, name)
            assert after is None if before is None else after.tolist() == [before[row] for row in rows], name
        assert picked.stream is whole.stream and picked.dropped == 3
        for field in fields(Requests):
            assert type(getattr(picked, field.name)) is type(getattr(whole, field.name))
        assert picked.history_items.dtype == np.int32 and picked.history_offsets.dtype == np.int64


@given(histories, st.integers(1, 5), st.integers(1, 3))
def test_batches_hold_the_newest_items_of_every_history(rows: Histories, length: int, batch_size: int) -> None:
    found, lengths = {}, []
    for numbers, batch in requests_of(rows).batches(length, earlier_positives=3, batch_size=batch_size):
        assert 1 <= len(numbers) <= batch_size
        assert batch.context_features is None
        assert not batch.counted_BT.any()
        assert batch.items_BT.shape[1] == max(1, *(min(length, len(rows[number])) for number in numbers))
        for number, items, count in zip(numbers, batch.items_BT.tolist(), batch.lengths_B.tolist(), strict=True):
            newest = rows[number][-length:]
            assert count == max(1, len(newest))
            assert items == newest + [0] * (len(items) - len(newest))
            found[int(number)] = newest
            lengths.append(len(newest))
    assert sorted(found) == list(range(len(rows)))
    assert lengths == sorted(lengths)  # like lengths stand together


@given(seeds, st.integers(1, 5), st.integers(0, 3), st.integers(1, 3))
def test_batches_of_a_stream_hold_its_newest_events_and_earlier_positives(
    seed: int, length: int, earlier: int, batch_size: int
) -> None:
    asked = streamed_requests(seed)
    stream, ends = asked.stream, asked.stream_ends_C
    assert stream is not None and ends is not None
    seen = []
    for numbers, batch in asked.batches(length, earlier, batch_size):
        context = batch.context_features
        assert context is not None and context.lifelong is None
        assert context.positive_filled_BP.shape[1] <= earlier
        for row, number in enumerate(numbers):
            user = asked.users_C[number]
            begin, end = int(stream.offsets[user]), int(ends[number])
            start = max(begin, end - length)
            places = list(range(start, end))
            assert int(batch.lengths_B[row]) == max(1, len(places))
            assert batch.items_BT[row, : len(places)].tolist() == stream.item_index[places].tolist()
            assert not batch.items_BT[row, len(places) :].any()
            assert context.features_BTF[row, : len(places)].tolist() == stream.features_EF[places].tolist()
            assert context.users_BU[row].tolist() == stream.users_UF[user].tolist()
            positives = (
                [place for place in range(begin, start) if stream.is_target_E[place]][-earlier:] if earlier else []
            )
            filled = context.positive_filled_BP[row]
            assert filled.tolist() == [False] * (len(filled) - len(positives)) + [True] * len(positives)
            assert context.positive_items_BP[row][filled].tolist() == stream.item_index[positives].tolist()
            assert context.positive_features_BPF[row][filled].tolist() == stream.features_EF[positives].tolist()
            seen.append(int(number))
    assert sorted(seen) == list(range(len(asked)))


@given(histories, st.data())
def test_seen_items_are_the_whole_history(rows: Histories, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    seen_BS = requests_of(rows).seen(np.array(numbers))
    longest = max(1, *(len(rows[number]) for number in numbers))
    assert seen_BS.tolist() == [rows[number] + [-1] * (longest - len(rows[number])) for number in numbers]


def sequences_of(rows: Histories, parts: Histories, ordered: bool = True) -> Sequences:
    items, offsets = flat(rows)
    return Sequences(pl.Series(range(len(rows))), items, offsets, flat(parts)[0].astype(np.int8), ordered)


@given(histories, st.data())
def test_histories_end_where_they_are_asked_to(rows: Histories, data: st.DataObject) -> None:
    sequences = sequences_of(rows, [[0] * len(row) for row in rows])
    users = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6)))
    counts = [data.draw(st.integers(0, len(rows[user]))) for user in users]
    targets = np.arange(len(users), dtype=np.int32)
    before = requests_before(sequences, users, sequences.offsets[users] + counts, targets)
    assert histories_of(before) == [rows[user][:count] for user, count in zip(users, counts, strict=True)]
    assert (before.users_C == users).all() and (before.targets_C == targets).all()
    assert (before.target_events_C == -1).all()
    events = np.flatnonzero(~np.isin(np.arange(len(sequences.item_index)), sequences.offsets))
    at = requests_at(sequences, events, dropped=2)
    expected = [row[:place] for row in rows for place in range(1, len(row))]
    assert (histories_of(at), at.dropped) == (expected, 2)
    assert (sequences.item_index[events] == at.targets_C).all() and (at.target_events_C == events).all()


def test_of_many_requests_an_even_sample_is_asked() -> None:
    sequences = sequences_of([[user, user + 1, user + 2] for user in range(100)], [[0, 0, 2]] * 100)
    everyone = evaluation_requests(sequences, "test", "first")
    few = evaluation_requests(sequences, "test", "first", at_most=12)
    rows = np.linspace(0, 99, 12).round().astype(int)
    assert few.users_C.tolist() == rows.tolist()
    assert histories_of(few) == histories_of(everyone.pick(rows))
    assert len(evaluation_requests(sequences, "test", "first", at_most=100)) == 100
    assert len(evaluation_requests(sequences, "valid", "all")) == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("validation", "first"), 'unknown part "validation"; did you mean "valid"'),
        (("train", "first"), 'unknown part "train"; there is: valid, test'),
        (("test", "last"), 'unknown targets_per_user "last"; use first or all'),
    ],
)
def test_wrong_requests_are_explained(asked: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluation_requests(sequences_of([[1, 2]], [[0, 2]]), *asked)  # type: ignore[arg-type]
