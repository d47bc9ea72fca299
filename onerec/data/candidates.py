"""Items for each request: a list to show, or candidates for a scorer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

NO_ITEM = -1
ITEM_SCORE = "item_score"  # the feature of candidates that a generator's item scorer gives


@dataclass(frozen=True)
class Lists:
    """K items for each of C requests.

    Attributes:
        items_CK: int32, rows of items.parquet, best first; -1 after the last item of a shorter list.
        scores_CK: float32, higher is better; -inf where there is no item.
    """

    items_CK: np.ndarray
    scores_CK: np.ndarray

    @classmethod
    def empty(cls, requests: int, k: int) -> Self:
        """Lists without items, to be filled in place. Raises ValueError if k is below 1."""
        if k < 1:
            raise ValueError(f"lists need a length k of at least 1, got {k}")
        return cls(np.full((requests, k), NO_ITEM, np.int32), np.full((requests, k), -np.inf, np.float32))

    @property
    def found_CK(self) -> np.ndarray:
        """True where there is an item."""
        return self.items_CK >= 0


@dataclass(frozen=True)
class Candidates(Lists):
    """Items for a scorer to rank. They need not be sorted by score.

    Attributes:
        features: named features of each candidate, float32 `[C, K]`, 0 where there is no item. A generator with an item scorer
            adds `item_score`.
    """

    features: Mapping[str, np.ndarray] = field(default_factory=dict)


def best_of(candidates: Lists, scores_CK: np.ndarray, k: int) -> Lists:
    """The k candidates with the highest scores, best first. Candidates with equal scores keep their order.

    Args:
        candidates: the items to choose from.
        scores_CK: new scores, -inf where there is no item.
        k: items per list. Lists with fewer candidates are padded with -1 and -inf.
    """
    items_CK = candidates.items_CK
    if items_CK.shape[1] < k:
        room = ((0, 0), (0, k - items_CK.shape[1]))
        items_CK = np.pad(items_CK, room, constant_values=NO_ITEM)
        scores_CK = np.pad(scores_CK, room, constant_values=-np.inf)
    order_CK = np.argsort(-scores_CK, axis=1, kind="stable")[:, :k]
    return Lists(np.take_along_axis(items_CK, order_CK, 1), np.take_along_axis(scores_CK, order_CK, 1))
