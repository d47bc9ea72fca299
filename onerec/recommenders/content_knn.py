"""Semantic kNN: the items whose vectors are most like the history's, whether anybody ever took them or not.

The one baseline here that can recommend an item without events; "Semantic KNN" of the cold-start study in TIGER
(arXiv 2305.05065, §4.3).
"""

import numpy as np
from numpy.typing import NDArray

from onerec.data.candidates import Lists
from onerec.data.item_order import check_sequences
from onerec.data.requests import Requests
from onerec.recommenders.recommender import TrainingData
from onerec.scorers.content_likeness import CELLS_PER_CHUNK, history_means
from tokenizer.common.vectors import normalise_rows


class ContentKNN:
    """Rank items by the cosine of their vector with the history's mean vector.

    Items that nothing tells apart (such as those whose vector is zero) are ordered by a seeded random priority, never by number.

    Args:
        vectors_ND: one vector per item of the catalogue.
        decay: weight of an event against the next newer one in the mean, in (0, 1].
        candidates_M: item numbers that may be listed; None: all.
        seed: of the order of equals.
    """

    name, label = "content_knn", "Content-kNN"
    description = "cosine of item vectors with the history's mean, items without events included"
    reads_vectors = True

    def __init__(
        self, vectors_ND: np.ndarray, decay: float, candidates_M: NDArray[np.integer] | None = None, seed: int = 0
    ) -> None:
        self.unit_ND, self.decay = normalise_rows(vectors_ND), decay
        candidates_M = np.arange(len(self.unit_ND)) if candidates_M is None else candidates_M
        self.candidates_M = np.random.default_rng(seed).permutation(candidates_M)

    @classmethod
    def fit(cls, section: bool, data: TrainingData) -> "ContentKNN":
        """Take the vectors that the semantic IDs were made from; every event of a history counts the same."""
        return cls(data.vectors_ND(), 1.0, seed=data.seed)

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k items most like every history; scores are cosines.

        Works in chunks of users, so memory does not grow with their number.
        """
        history_items, history_offsets = requests.history_items, requests.history_offsets
        check_sequences(history_items, history_offsets, len(self.unit_ND))
        lists, candidates = Lists.empty(len(requests), k), len(self.candidates_M)
        place_N = np.full(len(self.unit_ND), candidates)
        place_N[self.candidates_M] = np.arange(candidates)
        compared_MD, found = self.unit_ND[self.candidates_M], min(k, candidates)
        means_CD = history_means(self.unit_ND, requests, self.decay)
        chunk = max(1, CELLS_PER_CHUNK // max(1, candidates))
        for start in range(0, len(requests), chunk):
            offsets = history_offsets[start : start + chunk + 1]
            likeness_BM = means_CD[start : start + chunk] @ compared_MD.T
            if exclude_seen:
                rows = np.repeat(np.arange(len(likeness_BM)), np.diff(offsets))
                places = place_N[history_items[offsets[0] : offsets[-1]]]
                likeness_BM[rows[places < candidates], places[places < candidates]] = -np.inf
            order_BK = np.argsort(-likeness_BM, axis=1, kind="stable")[:, :found]
            cosines_BK = np.take_along_axis(likeness_BM, order_BK, 1)
            part = slice(start, start + len(likeness_BM))
            lists.items_CK[part, :found] = np.where(cosines_BK > -np.inf, self.candidates_M[order_BK], -1)
            lists.scores_CK[part, :found] = cosines_BK
        return lists
