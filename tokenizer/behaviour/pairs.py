"""Pairs of items that belong together by behaviour: what `tokenizer.behaviour.alignment` pulls towards each other.

OneRec Technical Report (arXiv 2506.13695), tokenizer section, and QARM (arXiv 2411.11739): item-to-item pairs of high
Swing similarity, and user-to-item pairs of a clicked target and the most similar of the clicks before it. Whatever
sequences are handed in are used in full, so hand in training sequences only.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from tokenizer.behaviour.co_occurrence import check_sequences, co_occurrence
from tokenizer.common.vectors import normalise_rows
from tokenizer.errors import TokenizerError

ELEMENTS = 1 << 22  # entries of a sparse product worked on at once


@dataclass(frozen=True)
class ItemPairs:
    """Directed pairs (anchor, partner) of item rows.

    pairs_P2: int32 [P,2], no pair twice, none of an item with itself. weight_P: float32 [P], above zero: how often a
    pair is to be seen while learning.
    """

    pairs_P2: np.ndarray
    weight_P: np.ndarray

    def __len__(self) -> int:
        return len(self.weight_P)


def swing_pairs(
    item_index: np.ndarray,
    offsets: np.ndarray,
    item_count: int,
    *,
    neighbours: int = 10,
    alpha: float = 1.0,
    user_items: int = 200,
    item_users: int = 1000,
) -> ItemPairs:
    """Every item with its `neighbours` most similar by `swing_scores`; each anchor's weights sum to one."""
    scores_NN = swing_scores(item_index, offsets, item_count, alpha=alpha, user_items=user_items, item_users=item_users)
    return nearest_pairs(scores_NN, neighbours)


def co_occurrence_pairs(
    item_index: np.ndarray, offsets: np.ndarray, item_count: int, *, neighbours: int = 10, window: int = 5
) -> ItemPairs:
    """Every item with its `neighbours` most similar by `co_occurrence_scores`; each anchor's weights sum to one."""
    return nearest_pairs(co_occurrence_scores(item_index, offsets, item_count, window=window), neighbours)


def user_to_item_pairs(
    item_index: np.ndarray, offsets: np.ndarray, similarity: sparse.csr_matrix | np.ndarray, *, history: int = 10
) -> ItemPairs:
    """Every event's item with the most similar of the `history` events before it; the weight counts the events.

    similarity: scores [N,N], sparse (`swing_scores`, `co_occurrence_scores`), or collaborative vectors [N,D] compared by
    cosine. Of equally similar items the later one is taken. An event without a similar one before it (score above zero)
    makes no pair. TokenizerError when the sequences do not fit.
    """
    item_index, offsets = np.asarray(item_index, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
    item_count = similarity.shape[0]
    check_sequences(item_index, offsets, item_count)
    if history < 1:
        raise TokenizerError(f"history: expected 1 or more events, got {history}.")
    if sparse.issparse(similarity):
        similarity = sparse.csr_matrix(similarity)
        similarity.sort_indices()
    else:
        similarity = normalise_rows(similarity)
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    best = np.zeros(len(item_index))
    partner = np.full(len(item_index), -1, dtype=np.int64)
    for gap in range(1, min(history, len(item_index) - 1) + 1):
        later = np.flatnonzero((sequence[gap:] == sequence[:-gap]) & (item_index[gap:] != item_index[:-gap])) + gap
        score = _similarity_of(similarity, item_index[later], item_index[later - gap])
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
    """Swing similarity [N,N], symmetric, no diagonal (Yang et al., arXiv 2010.05525).

    score(i,j) = sum over pairs of users u,v that both have i and j of 1/sqrt|I_u| 1/sqrt|I_v| 1/(alpha + |I_u n I_v|):
    two users who share little else speak the louder for what they do share. A pair of items needs two such users.

    user_items: of a user, only the latest so many different items count. item_users: of an item, only so many users,
    spread evenly over all who have it, count. Both bound a cost that is quadratic in them; |I_u| is the uncapped number.
    """
    item_index, offsets = np.asarray(item_index, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
    check_sequences(item_index, offsets, item_count)
    if alpha < 0 or user_items < 1 or item_users < 1:
        raise TokenizerError(
            f"alpha must not be negative ({alpha}), user_items ({user_items}) and item_users ({item_users}) at least 1."
        )
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
    """Counts of `co_occurrence` over the root of both items' totals, [N,N] with values in 0..1."""
    counts_NN = co_occurrence(item_index, offsets, item_count, window)
    total_N = np.asarray(counts_NN.sum(axis=1)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.where(total_N > 0, total_N, 1)))
    return sparse.csr_matrix(scale @ counts_NN @ scale)


def nearest_pairs(scores_NN: sparse.csr_matrix, neighbours: int) -> ItemPairs:
    """Every item with the `neighbours` it scores highest with, ties to the lower row; weights of an item sum to one."""
    if neighbours < 1:
        raise TokenizerError(f"neighbours: expected 1 or more, got {neighbours}.")
    scores = scores_NN.tocoo()
    order = np.lexsort((scores.col, -scores.data, scores.row))
    anchor, partner, score = scores.row[order], scores.col[order], scores.data[order]
    rank = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    kept = (rank < neighbours) & (score > 0)
    anchor, partner, score = anchor[kept], partner[kept], score[kept]
    total_N = np.bincount(anchor, weights=score, minlength=scores.shape[0])
    return ItemPairs(np.column_stack([anchor, partner]).astype(np.int32), (score / total_N[anchor]).astype(np.float32))


def joined(parts: list[ItemPairs]) -> ItemPairs:
    """Pairs of several kinds as one, each kind given the same total weight; a pair of two kinds gets the sum."""
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
    """Which capped users have which items [U,N], and 1/sqrt(number of different items) of every user."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    # the latest event of every user with every item; backwards, so that the latest is the first that unique finds
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
    # of n users keep those where place * cap / n passes a whole number: `cap` of them, evenly spread
    cap, crowd = np.minimum(item_users, users_N)[item], users_N[item]
    kept_E = (place + 1) * cap // crowd > place * cap // crowd
    shape = (len(offsets) - 1, item_count)
    has_UN = sparse.csr_matrix((np.ones(int(kept_E.sum())), (user[kept_E], item[kept_E])), shape=shape)
    return has_UN, 1 / np.sqrt(np.maximum(size_U, 1))


def _cut(cost: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of rows whose summed cost is about ELEMENTS each, a row at least."""
    part = np.cumsum(cost) // ELEMENTS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(cost)] if len(cost) else []
    return list(pairwise(edges))


def _similarity_of(similarity: sparse.csr_matrix | np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not len(a):
        return np.zeros(0)
    if sparse.issparse(similarity):
        return np.asarray(similarity[a, b]).ravel()
    parts = range(0, len(a), ELEMENTS // similarity.shape[1] + 1)
    step = parts.step
    return np.concatenate(
        [np.einsum("pd,pd->p", similarity[a[p : p + step]], similarity[b[p : p + step]]) for p in parts]
    )


def _counted(anchor: np.ndarray, partner: np.ndarray, item_count: int) -> ItemPairs:
    key, count = np.unique(anchor * item_count + partner, return_counts=True)
    return ItemPairs(np.column_stack([key // item_count, key % item_count]).astype(np.int32), count.astype(np.float32))
