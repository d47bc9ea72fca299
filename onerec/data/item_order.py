"""Items ordered by how often they were taken."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PopularityOrder:
    """Items by their number of training events, the most frequent first.

    A seeded random priority orders items with equal counts. Item numbers never do: many public datasets number items in the order
    in which they first occur, so item numbers would leak what comes next.

    Attributes:
        counts_N: int64, training events of each item.
        order_N: int32, the item at each place.
        place_N: int32, the place of each item, 0 for the most popular.
    """

    counts_N: NDArray[np.int64]
    order_N: NDArray[np.int32]
    place_N: NDArray[np.int32]

    @classmethod
    def count(cls, item_index: NDArray[np.integer], item_count: int, seed: int) -> Self:
        """Count the items of all training events. `seed` orders items with equal counts."""
        counts_N = np.bincount(item_index, minlength=item_count).astype(np.int64)
        return cls.of_counts(counts_N, np.random.default_rng(seed).permutation(item_count))

    @classmethod
    def of_counts(cls, counts_N: NDArray[np.int64], priority_N: NDArray[np.integer]) -> Self:
        """The order for given counts. Of items with equal counts, the one with the lower priority comes first."""
        order_N = np.lexsort((priority_N, -counts_N)).astype(np.int32)
        place_N = np.empty(len(counts_N), dtype=np.int32)
        place_N[order_N] = np.arange(len(counts_N), dtype=np.int32)
        return cls(counts_N, order_N, place_N)


def check_sequences(items: NDArray[np.integer], offsets: NDArray[np.integer], item_count: int) -> None:
    """Raise ValueError unless items and offsets form sequences over items 0 … item_count - 1."""
    if (
        offsets.ndim != 1
        or len(offsets) == 0
        or offsets[0] != 0
        or offsets[-1] != len(items)
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError(f"offsets must rise from 0 to {len(items)}, the number of events, with one step per user")
    if len(items) and not 0 <= int(items.min()) <= int(items.max()) < item_count:
        raise ValueError(f"items must lie in 0 … {item_count - 1}, got {int(items.min())} … {int(items.max())}")
