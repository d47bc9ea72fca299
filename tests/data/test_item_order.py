"""The order of items by popularity, against a sort in plain Python, and sequences that make no sense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerec.data.item_order import PopularityOrder, check_sequences


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 5))
def test_the_most_frequent_item_comes_first(events: list[int], seed: int) -> None:
    order = PopularityOrder.count(np.array(events, np.int32), 12, seed)
    assert order.counts_N.tolist() == [events.count(item) for item in range(12)]
    priority = np.random.default_rng(seed).permutation(12)
    assert order.order_N.tolist() == sorted(range(12), key=lambda item: (-events.count(item), priority[item]))
    assert order.order_N[order.place_N].tolist() == list(range(12))


def test_items_with_equal_counts_are_in_a_seeded_random_order_not_in_that_of_their_numbers() -> None:
    first, again, other = (PopularityOrder.count(np.arange(200), 200, seed).order_N for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    for order in (first, other):
        # The rank correlation of two independent orders of 200 has a standard deviation of 0.07.
        assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("items", "offsets", "message"),
    [
        ([0, 4], [0, 2], "items must lie in"),
        ([-1, 3], [0, 2], "items must lie in"),
        ([0, 1], [0, 1], "offsets must rise"),
        ([0, 1], [0, 3, 2], "offsets must rise"),
        ([0, 1], [1, 2], "offsets must rise"),
        ([], [], "offsets must rise"),
    ],
)
def test_sequences_that_make_no_sense_are_refused(items: list[int], offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sequences(np.array(items, np.int32), np.array(offsets, np.int64), 4)
