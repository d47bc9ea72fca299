"""Pairs of items with similar behaviour, which `tokenizer.behaviour.alignment` pulls together.

As in the OneRec Technical Report (arXiv 2506.13695, tokenizer section) and QARM (arXiv 2411.11739), there are item-to-item
pairs of high Swing similarity, and user-to-item pairs of a clicked item and the most similar of the clicks before it. All
events passed in are used, so pass training sequences only.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from tokenizer.behaviour.co_occurrence import check_sequences, co_occurrence
from tokenizer.common.vectors import normalise_rows

ELEMENTS = 1 << 22  # entries of a sparse product computed at once


@dataclass(frozen=True)
class ItemPairs:
    """Directed pairs (anchor, partner) of item rows.

    pairs_P2: int32 [P,2], all different, never an item with itself. weight_P: float32 [P], above zero: relative frequency of
    a pair in training.
    """

    pairs_P2: np.ndarray
    weight_P: np.ndarray

    def __len__(self) -> int:
        return len(self.weight_P)


def user_to_item_pairs(
    item_index: np.ndarray, offsets: np.ndarray, collaborative_ND: np.ndarray, *, history: int = 10
) -> ItemPairs:
    """Pair every event's item with the most similar of the `history` events before it; the weight counts the events.

    collaborative_ND: vectors [N,D], compared by cosine. Among equally similar items the latest is taken. An event makes no
    pair when no earlier event has a cosine above zero. TokenizerError when the offsets do not fit the events.
    """
    item_count = len(collaborative_ND)
    item_index, offsets = check_sequences(item_index, offsets, item_count)
    unit_ND = normalise_rows(collaborative_ND)
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    best = np.zeros(len(item_index))
    partner = np.full(len(item_index), -1, dtype=np.int64)
    for gap in range(1, min(history, len(item_index) - 1) + 1):
        later = np.flatnonzero((sequence[gap:] == sequence[:-gap]) & (item_index[gap:] != item_index[:-gap])) + gap
        score = _cosines(unit_ND, item_index[later], item_index[later - gap])
        better = score > best[later]
        best[later[better]] = score[better]
        partner[later[better]] = item_index[later[better] - gap]
    found = partner >= 0
    return _counted(item_index[found], partner[found], item_count)


def swing_scores(
    item_index: np.ndarray,
    offsets: np.ndarray,
    item_count: int,
    *,
    alpha: float = 1.0,
    user_items: int = 200,
    item_users: int = 1000,
) -> sparse.csr_matrix:
    """Swing similarity [N,N], symmetric, zero diagonal (Yang et al., arXiv 2010.05525).

    score(i,j) = sum over pairs of users u,v that both have i and j of 1/sqrt|I_u| 1/sqrt|I_v| 1/(alpha + |I_u n I_v|).
    The fewer other items two users share, the more their pair counts. A pair of items needs at least two such users.

    user_items: only this many of a user's latest different items count. item_users: only this many of an item's users count,
    an even sample of all. Both bound a cost that grows with their square. |I_u| is the number of items before this cap.
    """
    item_index, offsets = check_sequences(item_index, offsets, item_count)
    has_UN, weight_U = _users_by_items(item_index, offsets, item_count, user_items, item_users)
    users_N = np.asarray(has_UN.sum(axis=0)).ravel()
    total_NN = sparse.csr_matrix((item_count, item_count), dtype=np.float64)
    for start, stop in _cut(has_UN @ users_N):
        shared = sparse.coo_matrix(has_UN[start:stop] @ has_UN[start:].T)
        kept = (shared.data > 1) & (shared.col > shared.row)
        first, second, count = shared.row[kept] + start, shared.col[kept] + start, shared.data[kept]
        strength = weight_U[first] * weight_U[second] / (alpha + count)
        for begin, end in _cut(count**2):
            both_PN = has_UN[first[begin:end]].multiply(has_UN[second[begin:end]]).tocsr()
            total_NN = total_NN + both_PN.T @ sparse.diags(strength[begin:end]) @ both_PN
    total_NN = sparse.csr_matrix(total_NN)
    total_NN.setdiag(0)
    total_NN.eliminate_zeros()
    return total_NN


def co_occurrence_scores(
    item_index: np.ndarray, offsets: np.ndarray, item_count: int, *, window: int = 5
) -> sparse.csr_matrix:
    """Counts of `co_occurrence`, divided by the square root of the product of both items' totals: [N,N], values in 0..1."""
    counts_NN = co_occurrence(item_index, offsets, item_count, window)
    total_N = np.asarray(counts_NN.sum(axis=1)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.where(total_N > 0, total_N, 1)))
    return sparse.csr_matrix(scale @ counts_NN @ scale)


def nearest_pairs(scores_NN: sparse.csr_matrix, neighbours: int) -> ItemPairs:
    """Pair every item with its `neighbours` highest scores, ties to the lower row; weights of an item sum to one."""
    scores = scores_NN.tocoo()
    order = np.lexsort((scores.col, -scores.data, scores.row))
    anchor, partner, score = scores.row[order], scores.col[order], scores.data[order]
    rank = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    kept = (rank < neighbours) & (score > 0)
    anchor, partner, score = anchor[kept], partner[kept], score[kept]
    total_N = np.bincount(anchor, weights=score, minlength=scores.shape[0])
    return ItemPairs(np.column_stack([anchor, partner]).astype(np.int32), (score / total_N[anchor]).astype(np.float32))


def joined(parts: list[ItemPairs]) -> ItemPairs:
    """Join pairs of several kinds; each kind gets the same total weight, and a pair of two kinds gets the sum."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return ItemPairs(np.zeros((0, 2), dtype=np.int32), np.zeros(0, dtype=np.float32))
    pairs_P2 = np.concatenate([part.pairs_P2 for part in parts])
    weight_P = np.concatenate([part.weight_P / part.weight_P.sum(dtype=np.float64) for part in parts])
    unique_P2, place = np.unique(pairs_P2, axis=0, return_inverse=True)
    weight_P = np.bincount(place.ravel(), weights=weight_P)
    return ItemPairs(unique_P2, (weight_P / weight_P.mean()).astype(np.float32))


def _users_by_items(
    item_index: np.ndarray, offsets: np.ndarray, item_count: int, user_items: int, item_users: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Which users have which items after both caps [U,N], and 1/sqrt(number of different items) of every user."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    # each user's latest event with each item: np.unique finds the first, so the events are reversed
    _, latest = np.unique((user * item_count + item_index)[::-1], return_index=True)
    kept = np.sort(len(user) - 1 - latest)
    user, item = user[kept], item_index[kept]
    size_U = np.bincount(user, minlength=len(offsets) - 1)
    from_end = np.cumsum(size_U)[user] - np.arange(len(user))
    user, item = user[from_end <= user_items], item[from_end <= user_items]
    by_item = np.argsort(item, kind="stable")
    users_N = np.bincount(item, minlength=item_count)
    place = np.empty(len(item), dtype=np.int64)
    place[by_item] = np.arange(len(item)) - np.repeat(np.cumsum(users_N) - users_N, users_N)
    # of n users, keep those at which place * cap / n passes a whole number: these are `cap` users, evenly spread
    cap, crowd = np.minimum(item_users, users_N)[item], users_N[item]
    kept_E = (place + 1) * cap // crowd > place * cap // crowd
    shape = (len(offsets) - 1, item_count)
    has_UN = sparse.csr_matrix((np.ones(int(kept_E.sum())), (user[kept_E], item[kept_E])), shape=shape)
    return has_UN, 1 / np.sqrt(np.maximum(size_U, 1))


def _cut(cost: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of at least one row, each with a total cost of about ELEMENTS."""
    part = np.cumsum(cost) // ELEMENTS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(cost)] if len(cost) else []
    return list(pairwise(edges))


def _cosines(unit_ND: np.ndarray, a_P: np.ndarray, b_P: np.ndarray) -> np.ndarray:
    if not len(a_P):
        return np.zeros(0)
    step = ELEMENTS // unit_ND.shape[1] + 1
    parts = [slice(start, start + step) for start in range(0, len(a_P), step)]
    return np.concatenate([np.einsum("pd,pd->p", unit_ND[a_P[part]], unit_ND[b_P[part]]) for part in parts])


def _counted(anchor: np.ndarray, partner: np.ndarray, item_count: int) -> ItemPairs:
    key, count = np.unique(anchor * item_count + partner, return_counts=True)
    return ItemPairs(np.column_stack([key // item_count, key % item_count]).astype(np.int32), count.astype(np.float32))
