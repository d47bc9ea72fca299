"""Recall@10 and NDCG@10 by the target's popularity and by the length of the history.

Bucket edges are fixed, so that a bucket's name means the same in every report and for every dataset.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onerec.evaluate.bootstrap import intervals
from onerec.evaluate.metrics import ndcg, recall

# (name, lowest, highest), both ends included; None means no upper end.
Buckets = tuple[tuple[str, int, int | None], ...]

POPULARITY_BUCKETS: Buckets = (
    ("0 (cold)", 0, 0),
    ("1-5", 1, 5),
    ("6-20", 6, 20),
    ("21-100", 21, 100),
    ("over 100", 101, None),
)
HISTORY_BUCKETS: Buckets = (
    ("1-5", 1, 5),
    ("6-10", 6, 10),
    ("11-20", 11, 20),
    ("21-50", 21, 50),
    ("over 50", 51, None),
)
COLD_BUCKETS: Buckets = (("cold", 0, 0), ("seen in training", 1, None))

_CUTOFF = 10


def training_counts(item_index: NDArray[np.integer], item_count: int) -> NDArray[np.int64]:
    """Number of training events of each item, int64 `[N]`. Pass the items of training sequences only."""
    return np.bincount(item_index, minlength=item_count).astype(np.int64)


def by_bucket(
    ranks_C: NDArray[np.integer],
    user_C: NDArray[np.integer],
    key_C: NDArray[np.integer],
    buckets: Buckets,
    samples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Figures for each bucket of cases. An integer key assigns cases to buckets: the number of training events of the target, or
    of events in the history.

    Returns:
        rows {"bucket": name, "cases": int, "recall@10": {"value", "low", "high"}, "ndcg@10": {…}} in the order of `buckets`.
        Empty buckets are left out. Intervals resample the users with a case in the bucket.

    Raises:
        ValueError: the lengths of ranks, users and keys differ.
    """
    if not len(ranks_C) == len(user_C) == len(key_C):
        raise ValueError(
            f"{len(ranks_C)} ranks, {len(user_C)} users and {len(key_C)} keys; each case needs one of each"
        )
    rows = []
    for name, lowest, highest in buckets:
        inside_C = key_C >= lowest
        if highest is not None:
            inside_C &= key_C <= highest
        ranks = ranks_C[inside_C]
        if len(ranks) == 0:
            continue
        figures = {f"recall@{_CUTOFF}": recall(ranks, _CUTOFF), f"ndcg@{_CUTOFF}": ndcg(ranks, _CUTOFF)}
        measured = intervals(figures, user_C[inside_C], samples, seed)
        rows.append({"bucket": name, "cases": len(ranks), **measured})
    return rows
