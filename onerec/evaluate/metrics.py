"""Ranks of targets in lists, and figures per case from ranks. All functions are pure.

A case has exactly one relevant item, its target. The case's rank is the target's 1-based place in the returned list, or 0 if the
list does not hold it. A list of 50 items therefore gives all figures up to @50.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CUTOFFS: tuple[int, ...] = (1, 5, 10, 20, 50)


def ranks_of(items_CK: NDArray[np.integer], target_C: NDArray[np.integer]) -> NDArray[np.int32]:
    """The rank of each target in its list.

    Args:
        items_CK: returned items, best first, padded with -1.
        target_C: the items that were taken next, 0 or above.

    Returns:
        ranks, int32 `[C]`, 1-based; 0 if the target is not in the list. If it is there twice, the first place counts.

    Raises:
        ValueError: the shapes do not match, or a target is negative, which would match the padding.
    """
    _check_lists(items_CK, target_C)
    return _first_match(items_CK == target_C[:, None])


def id_ranks_of(
    items_CK: NDArray[np.integer], target_C: NDArray[np.integer], group_N: NDArray[np.integer]
) -> NDArray[np.int32]:
    """Ranks by code sequence: every item with the target's codes counts as the target.

    Open implementations of generative retrieval report figures from these more generous ranks. They never replace `ranks_of`.

    Args:
        items_CK, target_C: as in `ranks_of`.
        group_N: each item's collision group, a number per distinct code sequence of the quantizer.

    Raises:
        ValueError: the shapes do not match, a target is negative, or an item lies outside `group_N`.
    """
    _check_lists(items_CK, target_C)
    highest = max(int(items_CK.max(initial=-1)), int(target_C.max(initial=-1)))
    if highest >= len(group_N):
        raise ValueError(f"item {highest} has no collision group; group_N covers {len(group_N)} items")
    same_group_CK = group_N[np.maximum(items_CK, 0)] == group_N[target_C][:, None]
    return _first_match(same_group_CK & (items_CK >= 0))


def recall(ranks_C: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1.0 for each case whose target is among the first k items, else 0.0. With one relevant item, this is the hit rate."""
    return ((ranks_C > 0) & (ranks_C <= k)).astype(np.float64)


def ndcg(ranks_C: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 / log2(rank + 1) within the first k, else 0. The ideal gain of a single relevant item is 1."""
    discount_C: NDArray[np.float64] = np.log2(np.maximum(ranks_C, 1) + 1.0)
    return np.divide(recall(ranks_C, k), discount_C)


def reciprocal_rank(ranks_C: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 / rank within the first k, else 0; its mean over cases is MRR@k."""
    place_C: NDArray[np.float64] = np.maximum(ranks_C, 1).astype(np.float64)
    return np.divide(recall(ranks_C, k), place_C)


def case_metrics(ranks_C: NDArray[np.integer], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, NDArray[np.float64]]:
    """All figures of all cases by name: {"recall@1": values_C, …, "ndcg@10": values_C, …, "mrr@50": values_C}.

    No cutoff may exceed the length of the ranked lists. Beyond it, a rank of 0 would only mean that the list is too short.
    """
    _check_ranks(ranks_C)
    measures = {"recall": recall, "ndcg": ndcg, "mrr": reciprocal_rank}
    return {f"{name}@{k}": measure(ranks_C, k) for name, measure in measures.items() for k in cutoffs}


def id_case_metrics(
    id_ranks_C: NDArray[np.integer], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, NDArray[np.float64]]:
    """ID-level recall, {"id_recall@1": values_C, …}. Its own names keep it apart from recall of items."""
    _check_ranks(id_ranks_C)
    return {f"id_recall@{k}": recall(id_ranks_C, k) for k in cutoffs}


def coverage(items_CK: NDArray[np.integer], item_count: int, k: int) -> float:
    """Share of the catalogue, 0 to 1, that is among the first k items of any list. Raises ValueError for shorter lists."""
    if items_CK.ndim != 2 or not 0 < k <= items_CK.shape[1]:
        raise ValueError(f"coverage@{k} needs lists of at least {k} items, got an array of shape {items_CK.shape}")
    shown_N = np.zeros(item_count, dtype=bool)
    top = items_CK[:, :k]
    shown_N[top[top >= 0]] = True
    return float(shown_N.sum() / item_count) if item_count else 0.0


def _first_match(matches_CK: NDArray[np.bool_]) -> NDArray[np.int32]:
    if matches_CK.shape[1] == 0:
        return np.zeros(len(matches_CK), dtype=np.int32)
    return np.where(matches_CK.any(axis=1), matches_CK.argmax(axis=1) + 1, 0).astype(np.int32)


def _check_lists(items_CK: NDArray[np.integer], target_C: NDArray[np.integer]) -> None:
    if items_CK.ndim != 2 or target_C.shape != items_CK.shape[:1]:
        raise ValueError(f"expected one list per target, got lists {items_CK.shape} and targets {target_C.shape}")
    if target_C.min(initial=0) < 0:
        raise ValueError("targets must be item numbers of 0 or above; -1 marks padding in lists")


def _check_ranks(ranks_C: NDArray[np.integer]) -> None:
    if ranks_C.min(initial=0) < 0:
        raise ValueError("ranks are 1-based, or 0 for a target that is not in the list; got a negative rank")
