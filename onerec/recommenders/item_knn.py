"""Item-kNN with order: rank the catalogue by what co-occurred with the history's items in training.

No parameters are learnt, yet on sparse shopping logs this beats most published sequential models of any size. It is the first
number that a generative model has to pass.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.recommenders.popularity import best_free_places
from onerec.recommenders.recommender import TrainingData
from onerec.scorers.co_occurrence import CELLS_PER_CHUNK, CoOccurrence, CoOccurrenceConfig

_COLUMN_MASK = (1 << 31) - 1


class ItemKNN:
    """Rank items by their co-occurrence with the history; see `onerec.scorers.co_occurrence.CoOccurrence`.

    Attributes:
        counts: fitted on the training part.
    """

    name, label = "item_knn", "Item-kNN"
    description = "weighted co-occurrence with order, no training"
    reads_vectors = False

    def __init__(self, counts: CoOccurrence) -> None:
        self.counts = counts

    @classmethod
    def fit(cls, section: CoOccurrenceConfig, data: TrainingData) -> "ItemKNN":
        """Count the training part."""
        return cls(CoOccurrence(section, seed=data.seed).fit(data.item_index, data.offsets, data.item_count))

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k best items of every request; scores are sums of similarities.

        Items without any score fill the list by popularity, with negative scores: always below every scored item. Works
        in chunks of users, so memory does not grow with their number.
        """
        counts, similarity_NN = self.counts, self.counts.similarity_NN
        item_count = similarity_NN.shape[0]
        weights_CN, seen_CN = counts.history_weights(requests), self._seen(requests)
        # Requests that reach equally many items share a chunk: the padded table then holds little padding.
        reach_C = counts.reach_of(weights_CN)
        order_C = np.argsort(-reach_C, kind="stable")
        lists = Lists.empty(len(order_C), k)
        start = 0
        while start < len(order_C):
            rows = order_C[start : start + max(1, CELLS_PER_CHUNK // (int(reach_C[order_C[start]]) + k))]
            start += len(rows)
            scored_BN = weights_CN[rows] @ similarity_NN
            if exclude_seen:
                # Far below any score: seen items turn negative, and only positive entries are ranked.
                scored_BN = scored_BN - seen_CN[rows] * np.float32(1e30)
            places_BK, scores_BK = _top_places(scored_BN, k)
            _fill(places_BK, scores_BK, scored_BN, item_count)
            lists.scores_CK[rows] = scores_BK
            lists.items_CK[rows] = np.where(places_BK >= 0, counts.order.order_N[places_BK], -1)
        return lists

    def _seen(self, requests: Requests) -> sparse.csr_array:
        """1 for every item of a history, however long ago; sparse float32 `[C, N]`, columns are places."""
        places = self.counts.order.place_N[requests.history_items]
        row = np.repeat(np.arange(len(requests)), requests.history_lengths_C)
        shape = (len(requests), self.counts.similarity_NN.shape[0])
        seen = sparse.csr_array((np.ones(len(places), dtype=np.float32), (row, places)), shape=shape)
        seen.data[:] = 1.0
        return seen


def _top_places(scored_BN: sparse.csr_array, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Per row the k largest positive entries, best first, lower column first among equals; -1 and -inf where fewer.

    A positive float32 keeps its order when its bits are read as an integer. With the score's bits above and the
    mirrored column below, one integer partition selects and breaks ties exactly.
    """
    lengths = np.diff(scored_BN.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    column_in_row = np.arange(len(row)) - np.repeat(scored_BN.indptr[:-1], lengths)
    data = np.maximum(scored_BN.data.astype(np.float32), 0)
    key = (data.view(np.int32).astype(np.int64) << 31) | (_COLUMN_MASK - scored_BN.indices.astype(np.int64))
    keys_BW = np.full((len(lengths), max(k, int(lengths.max(initial=0)))), -1, dtype=np.int64)
    keys_BW[row, column_in_row] = np.where(data > 0, key, -1)
    keys_BW.partition(keys_BW.shape[1] - k, axis=1)
    top_BK = -np.sort(-keys_BW[:, keys_BW.shape[1] - k :], axis=1)
    found_BK = top_BK >= 0
    places_BK = np.where(found_BK, _COLUMN_MASK - (top_BK & _COLUMN_MASK), -1).astype(np.int32)
    scores_BK = np.where(found_BK, (top_BK >> 31).astype(np.int32).view(np.float32), -np.inf).astype(np.float32)
    return places_BK, scores_BK


def _fill(
    places_BK: NDArray[np.int32], scores_BK: NDArray[np.float32], taken_BN: sparse.csr_array, item_count: int
) -> None:
    """Complete short rows in place with the most popular items not taken, scored -1 - popularity place."""
    k = places_BK.shape[1]
    found_B = (places_BK >= 0).sum(axis=1)
    short = np.flatnonzero(found_B < k)
    if len(short) == 0:
        return
    taken = taken_BN[short].tocoo()
    nonzero = taken.data != 0
    fill_RK = best_free_places(taken.row[nonzero], taken.col[nonzero], len(short), k, item_count)
    offset_RK = np.arange(k) - found_B[short][:, None]
    row, column = np.nonzero(offset_RK >= 0)
    filled = fill_RK[row, offset_RK[row, column]]
    places_BK[short[row], column] = filled
    scores_BK[short[row], column] = np.where(filled >= 0, -1.0 - filled, -np.inf)
