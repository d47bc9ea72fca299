"""The same list for everyone: items by their training events, without those that the user has already seen."""

import numpy as np
from numpy.typing import NDArray

from onerec.data.candidates import Lists
from onerec.data.item_order import PopularityOrder, check_sequences
from onerec.data.requests import Requests
from onerec.recommenders.recommender import TrainingData

_CELLS_PER_CHUNK = 1 << 22


class Popularity:
    """The items with the most training events first; see `PopularityOrder` for equal ones."""

    name, label = "popularity", "Popularity"
    description = "most frequent training items"
    reads_vectors = False

    def __init__(self, order: PopularityOrder) -> None:
        self.order = order

    @classmethod
    def fit(cls, section: bool, data: TrainingData) -> "Popularity":
        """Count the training part; there is nothing to set."""
        check_sequences(data.item_index, data.offsets, data.item_count)
        return cls(PopularityOrder.count(data.item_index, data.item_count, data.seed))

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k most popular items for every request; scores are training events.

        Works through the requests in chunks, so memory does not grow with their number.
        """
        order, item_count = self.order, len(self.order.order_N)
        check_sequences(requests.history_items, requests.history_offsets, item_count)
        lengths_C = requests.history_lengths_C if exclude_seen else np.zeros(len(requests), dtype=np.int64)
        width = min(item_count, k + int(lengths_C.max(initial=0)))
        chunk = max(1, _CELLS_PER_CHUNK // max(1, width))
        lists = Lists.empty(len(requests), k)
        for start in range(0, len(requests), chunk):
            lengths_B = lengths_C[start : start + chunk]
            rows = np.repeat(np.arange(len(lengths_B)), lengths_B)
            first = int(requests.history_offsets[start])
            seen_places = order.place_N[requests.history_items[first : first + len(rows)]]
            places_BK = best_free_places(rows, seen_places, len(lengths_B), k, item_count)
            found_BK = places_BK >= 0
            items_B = order.order_N[places_BK[found_BK]]
            lists.items_CK[start : start + chunk][found_BK] = items_B
            lists.scores_CK[start : start + chunk][found_BK] = order.counts_N[items_B]
        return lists


def best_free_places(
    taken_rows: NDArray[np.integer], taken_places: NDArray[np.integer], row_count: int, k: int, item_count: int
) -> NDArray[np.int32]:
    """Per row the k lowest places of 0 … item_count-1 that are not taken; row_count x k, -1 where none is left.

    taken_rows and taken_places are parallel: this place is taken in this row. A row with t taken places finds its k
    free ones among the first k + t, so no array grows with the catalogue.
    """
    most_taken = int(np.bincount(taken_rows, minlength=1).max())
    width = min(item_count, k + most_taken)
    free_RW = np.ones((row_count, width), dtype=bool)
    inside = taken_places < width
    free_RW[taken_rows[inside], taken_places[inside]] = False
    column_RW = np.cumsum(free_RW, axis=1) - 1
    rows, places = np.nonzero(free_RW & (column_RW < k))
    result_RK = np.full((row_count, k), -1, dtype=np.int32)
    result_RK[rows, column_RW[rows, places]] = places
    return result_RK
