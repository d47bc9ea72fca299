"""Ragged rows as a rectangle, against loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onerec.data.padding import batches_of_like_length, padded_places

lengths = st.lists(st.integers(0, 6), max_size=8)


@given(lengths, st.integers(0, 3), st.sampled_from([1, -1]), st.none() | st.integers(0, 4))
def test_places_are_those_of_a_loop(lengths: list[int], gap: int, step: int, room: int | None) -> None:
    starts = [
        gap + sum(lengths[:row]) + (length - 1 if step < 0 and length else 0) for row, length in enumerate(lengths)
    ]
    width = None if room is None else max(lengths, default=0) + room
    places_BT, inside_BT = padded_places(
        np.array(starts, np.int64), np.array(lengths, np.int64), step=step, width=width
    )
    expected_width = max([1, *lengths]) if width is None else width
    assert places_BT.shape == inside_BT.shape == (len(lengths), expected_width)
    for start, length, places, inside in zip(starts, lengths, places_BT, inside_BT, strict=True):
        assert inside.tolist() == [column < length for column in range(expected_width)]
        assert places[:length].tolist() == [start + step * column for column in range(length)]
        assert not places[length:].any()


@given(lengths, st.integers(1, 4))
def test_batches_hold_every_row_once_and_short_rows_first(lengths: list[int], batch_size: int) -> None:
    batches = batches_of_like_length(np.array(lengths, np.int64), batch_size)
    expected = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    assert [row for batch in batches for row in batch.tolist()] == expected
    assert all(len(batch) == batch_size for batch in batches[:-1])
