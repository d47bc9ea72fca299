"""The same list for everyone: items by how many training events they have, without those the user has already seen."""

import numpy as np
from numpy.typing import NDArray

_CELLS_PER_CHUNK = 1 << 22


class Popularity:
    """Counts of training events, most frequent first.

    Items with equal counts are ordered by a seeded random priority and never by number: in public datasets item numbers
    follow the order in which items were first met, so ordering by them would leak what comes next.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.counts_N: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.order_N: NDArray[np.int32] = np.zeros(0, dtype=np.int32)  # place -> item
        self.place_N: NDArray[np.int32] = np.zeros(0, dtype=np.int32)  # item -> place, 0 the most popular

    def fit(self, item_index: NDArray[np.integer], offsets: NDArray[np.integer], item_count: int) -> "Popularity":
        """Count the training sequences (items back to back; offsets of the users, U+1). Returns itself."""
        check_sequences(item_index, offsets, item_count)
        self.counts_N = np.bincount(item_index, minlength=item_count).astype(np.int64)
        priority_N = np.random.default_rng(self.seed).permutation(item_count)
        self.order_N = np.lexsort((priority_N, -self.counts_N)).astype(np.int32)
        self.place_N = np.empty(item_count, dtype=np.int32)
        self.place_N[self.order_N] = np.arange(item_count, dtype=np.int32)
        return self

    def recommend(
        self,
        history_items: NDArray[np.integer],
        history_offsets: NDArray[np.integer],
        k: int,
        exclude_seen: bool,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k most popular items for every history (CSR: items back to back, offsets C+1).

        Returns items (C x k, int32, -1 where the catalogue is exhausted) and scores (C x k, float32: training events,
        -inf beside a -1). Works through the histories in chunks, so memory does not grow with their number.
        """
        item_count = len(self.order_N)
        check_sequences(history_items, history_offsets, item_count)
        check_list_length(k)
        cases = len(history_offsets) - 1
        lengths_C = np.diff(history_offsets) if exclude_seen else np.zeros(cases, dtype=np.int64)
        width = min(item_count, k + int(lengths_C.max(initial=0)))
        chunk = max(1, _CELLS_PER_CHUNK // max(1, width))
        items_CK = np.full((cases, k), -1, dtype=np.int32)
        scores_CK = np.full((cases, k), -np.inf, dtype=np.float32)
        for start in range(0, cases, chunk):
            lengths_B = lengths_C[start : start + chunk]
            rows = np.repeat(np.arange(len(lengths_B)), lengths_B)
            first = int(history_offsets[start])
            seen_places = self.place_N[history_items[first : first + len(rows)]]
            places_BK = best_free_places(rows, seen_places, len(lengths_B), k, item_count)
            found_BK = places_BK >= 0
            items_CK[start : start + chunk][found_BK] = self.order_N[places_BK[found_BK]]
            scores_CK[start : start + chunk][found_BK] = self.counts_N[self.order_N[places_BK[found_BK]]]
        return items_CK, scores_CK


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


def check_sequences(items: NDArray[np.integer], offsets: NDArray[np.integer], item_count: int) -> None:
    """Raise ValueError unless items and offsets form a CSR list of sequences over items 0 … item_count-1."""
    if (
        offsets.ndim != 1
        or len(offsets) == 0
        or offsets[0] != 0
        or offsets[-1] != len(items)
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError(f"offsets must rise from 0 to the number of items, {len(items)}, one step per user")
    if len(items) and not 0 <= int(items.min()) <= int(items.max()) < item_count:
        raise ValueError(f"items must lie in 0 … {item_count - 1}, got {int(items.min())} … {int(items.max())}")


def check_list_length(k: int) -> None:
    """Raise ValueError for a list without places."""
    if k < 1:
        raise ValueError(f"k, the length of the lists, must be at least 1, got {k}")
