"""Training windows against a plain-Python account of which targets there are and what each may see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from request_cases import flat

from onerec.data.windows import epoch_batches, every_position_windows, one_target_windows, share_of_batch

sequences = st.lists(st.lists(st.integers(0, 30), max_size=40), min_size=1, max_size=8).filter(
    lambda rows: any(len(row) > 1 for row in rows)
)


def targets_of(rows: list[list[int]]) -> list[tuple[int, int]]:
    return sorted((row[n - 1], row[n]) for row in rows for n in range(1, len(row)))


@settings(max_examples=200, deadline=None)
@given(sequences, st.integers(1, 12))
def test_every_target_is_trained_exactly_once(rows: list[list[int]], length: int) -> None:
    for make in (every_position_windows, one_target_windows):
        windows = make(*flat(rows), length)
        batch = windows.batch(np.arange(len(windows)))
        counted = batch.counted_BT
        pairs = zip(batch.items_BT[counted].tolist(), batch.targets_BT[counted].tolist(), strict=True)
        assert sorted(pairs) == targets_of(rows)
        assert int(counted.sum()) == int(windows.target_counts.sum())
        assert int(batch.lengths_B.max()) <= length


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(2, 12))
def test_long_sequences_keep_half_a_window_of_history(rows: list[list[int]], length: int) -> None:
    item_index, offsets = flat(rows)
    windows = every_position_windows(item_index, offsets, length)
    for start, stop, first in zip(windows.starts, windows.stops, windows.first_targets, strict=True):
        begin = offsets[np.searchsorted(offsets, start, side="right") - 1]
        for position in range(first, stop):
            assert position - start + 1 >= min(position - begin + 1, length - length // 2)


@settings(max_examples=50, deadline=None)
@given(sequences, st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_shows_every_window_once_in_a_seeded_order(rows: list[list[int]], size: int, epoch: int) -> None:
    windows = one_target_windows(*flat(rows), 5)
    batches = epoch_batches(windows, size, seed=1, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(windows)))
    again = epoch_batches(windows, size, seed=1, epoch=epoch)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_epochs_differ_and_an_empty_share_counts_nothing() -> None:
    windows = one_target_windows(*flat([list(range(50))]), 5)
    first, second = (np.concatenate(epoch_batches(windows, 4, seed=0, epoch=epoch)) for epoch in (0, 1))
    assert (first != second).any()
    assert not windows.batch(np.array([-1])).counted_BT.any()


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_cover_a_batch_and_are_never_empty(parts: int) -> None:
    rows = np.arange(5)
    shares = [share_of_batch(rows, part, parts) for part in range(parts)]
    assert all(len(share) for share in shares)
    assert sorted(row for share in shares for row in share.tolist() if row >= 0) == rows.tolist()
