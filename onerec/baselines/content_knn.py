"""Semantic kNN: the items whose vectors are most like the history's, whether anybody ever took them or not.

The one baseline here that can recommend an item without events; "Semantic KNN" of the cold-start study in TIGER
(arXiv 2305.05065, §4.3).
"""

import numpy as np
from numpy.typing import NDArray

from onerec.baselines.popularity import check_list_length, check_sequences
from tokenizer.common.vectors import normalise_rows

_CELLS_PER_CHUNK = 1 << 22  # cosines, or elements of gathered histories, held together
HISTORY_EVENTS = 50  # the newest events of a history that count


class ContentKNN:
    """Rank items by the cosine of their vector with the history's mean vector.

    Items that nothing tells apart (such as those whose vector is zero) are ordered by a seeded random priority, never by number.

    Args:
        vectors_ND: one vector per item of the catalogue.
        decay: weight of an event against the next newer one in the mean, in (0, 1].
        candidates_M: item numbers that may be listed; None: all.
        seed: of the order of equals.
    """

    def __init__(
        self, vectors_ND: np.ndarray, decay: float, candidates_M: NDArray[np.integer] | None = None, seed: int = 0
    ) -> None:
        self.unit_ND, self.decay = normalise_rows(vectors_ND), decay
        candidates_M = np.arange(len(self.unit_ND)) if candidates_M is None else candidates_M
        self.candidates_M = np.random.default_rng(seed).permutation(candidates_M)

    def recommend(
        self,
        history_items: NDArray[np.integer],
        history_offsets: NDArray[np.integer],
        k: int,
        exclude_seen: bool,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k items most like every history (items back to back, oldest first; offsets C+1).

        Returns items (C x k, int32, -1 where there are no more) and cosines (C x k, float32, -inf beside a -1). Works in chunks
        of users, so memory does not grow with their number.
        """
        check_sequences(history_items, history_offsets, len(self.unit_ND))
        check_list_length(k)
        cases, candidates = len(history_offsets) - 1, len(self.candidates_M)
        items_CK, scores_CK = np.full((cases, k), -1, np.int32), np.full((cases, k), -np.inf, np.float32)
        place_N = np.full(len(self.unit_ND), candidates)
        place_N[self.candidates_M] = np.arange(candidates)
        compared_MD, found = self.unit_ND[self.candidates_M], min(k, candidates)
        means_CD = history_means(self.unit_ND, history_items, history_offsets, self.decay)
        chunk = max(1, _CELLS_PER_CHUNK // max(1, candidates))
        for start in range(0, cases, chunk):
            offsets = history_offsets[start : start + chunk + 1]
            likeness_BM = means_CD[start : start + chunk] @ compared_MD.T
            if exclude_seen:
                rows = np.repeat(np.arange(len(likeness_BM)), np.diff(offsets))
                places = place_N[history_items[offsets[0] : offsets[-1]]]
                likeness_BM[rows[places < candidates], places[places < candidates]] = -np.inf
            order_BK = np.argsort(-likeness_BM, axis=1, kind="stable")[:, :found]
            cosines_BK = np.take_along_axis(likeness_BM, order_BK, 1)
            part = slice(start, start + len(likeness_BM))
            items_CK[part, :found] = np.where(cosines_BK > -np.inf, self.candidates_M[order_BK], -1)
            scores_CK[part, :found] = cosines_BK
        return items_CK, scores_CK


def history_means(
    unit_ND: np.ndarray, history_items: NDArray[np.integer], history_offsets: NDArray[np.integer], decay: float
) -> np.ndarray:
    """The mean of each history's newest events, at length one, float32 `[C, D]`.

    Args:
        unit_ND: vectors of all items, of length one or zero.
        history_items: item numbers, oldest first, back to back; `history_offsets` `[C + 1]` are places in it.
        decay: an event's weight against the next newer one's; the newest weighs 1.
    """
    lengths_C = np.minimum(np.diff(history_offsets), HISTORY_EVENTS)
    means_CD = np.empty((len(lengths_C), unit_ND.shape[1]), np.float32)
    ages_T = np.arange(int(lengths_C.max(initial=0)))
    chunk = max(1, _CELLS_PER_CHUNK // max(1, len(ages_T) * unit_ND.shape[1]))
    for start in range(0, len(lengths_C), chunk):
        inside_BT = ages_T < lengths_C[start : start + chunk, None]
        newest_B1 = history_offsets[1:][start : start + chunk, None] - 1
        history_BTD = unit_ND[history_items[np.where(inside_BT, newest_B1 - ages_T, 0)]]
        weights_BT = np.where(inside_BT, decay**ages_T, 0).astype(np.float32)
        means_CD[start : start + chunk] = np.einsum("bt,btd->bd", weights_BT, history_BTD)
    return normalise_rows(means_CD, 0.0)
