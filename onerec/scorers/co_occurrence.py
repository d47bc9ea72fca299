"""Co-occurrence with order, counted in training: which items followed an item, and which occurred in the same sessions.

The idea comes from the sequence-aware neighbourhood methods in Ludewig and Jannach, "Evaluation of session-based recommendation
algorithms" (User Modeling and User-Adapted Interaction, 2018). The item-kNN recommender ranks the catalogue by these counts, and
selection reads them as features of its candidates.
"""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from onerec.data.item_order import PopularityOrder, check_sequences
from onerec.data.requests import Requests
from tokenizer.common.settings import Length, Settings

# A lighter event cannot change the top of a list. Without this floor, a history of a thousand events would be multiplied in full.
_WEIGHT_FLOOR = 1e-6
_ENTRIES_PER_BLOCK = 1 << 23  # sparse entries of the item matrix built at a time
CELLS_PER_CHUNK = 1 << 22  # cells of the padded score table per chunk of users, 32 MB
_ARRAYS = ("data", "indices", "indptr", "counts", "order", "median")


class CoOccurrenceConfig(Settings):
    """How co-occurrence is counted.

    Attributes:
        window: longest gap, in events, that counts as following.
        decay: weight of an event of the history relative to the next newer one.
        session_weight: weight of the unordered part; 0 leaves it out.
        source_exponent, target_exponent: damping of popular items, a and b of `CoOccurrence`.
        session_events: events per session in the unordered part; longer histories are cut. Items far apart say little about each
            other, and the cost grows with the square of this.
    """

    window: Length = 10
    decay: float = Field(0.6, gt=0, le=1)
    session_weight: float = Field(0.5, ge=0)
    source_exponent: float = Field(0.4, ge=-10, le=10)
    target_exponent: float = Field(0.35, ge=-10, le=10)
    session_events: Length = 100


DEFAULTS = CoOccurrenceConfig()


class CoOccurrence:
    """Counts over training sequences. An item's score is a sum over the history.

    The similarity of a source item i (in the history) and a candidate j is

        s(i, j) = n_i^-a * ( sum over gaps g <= window: follows_g(i, j) / g
                             + session_weight * together(i, j) * n_j^-b )

    where follows_g counts how often j came g events after i, together counts the sessions with both items, and n counts
    an item's training events. The newest event of a history weighs 1, the one before `decay`, then decay^2, and so on. The
    source exponent a keeps a popular item of the history from dominating the others. The target exponent b damps popular
    candidates in the session part only, where co-occurrence says nothing about order.

    The defaults were chosen on the validation part of Amazon Beauty. Only training events are counted, as for every trained
    model: the validation item of a test request belongs to its history and not to the counts.

    Args:
        config: how to count.
        neighbours: candidates kept per source item, the most similar ones.
        seed: of the order among items with equal counts.
    """

    def __init__(self, config: CoOccurrenceConfig = DEFAULTS, *, neighbours: int = 1000, seed: int = 0) -> None:
        self.config, self.neighbours, self.seed = config, neighbours, seed
        # Rows and columns are places in the popularity order, and the lower column wins a tie: the more popular item, or the one
        # with the higher random priority. An item's number never decides.
        self.order = PopularityOrder.count(np.zeros(0, np.int64), 0, seed)
        self.similarity_NN = sparse.csr_array((0, 0), dtype=np.float32)
        self.median_strength = 0.0  # of all similarities above 0; 0 where there are none

    def fit(self, item_index: NDArray[np.integer], offsets: NDArray[np.integer], item_count: int) -> Self:
        """Count training sequences, given as items back to back, oldest first, and the users' offsets. Returns itself."""
        check_sequences(item_index, offsets, item_count)
        config = self.config
        self.order = PopularityOrder.count(item_index, item_count, self.seed)
        places = self.order.place_N[item_index]
        # n of each place; items without events have no entries, so 1 does no harm.
        counts_N = np.maximum(self.order.counts_N[self.order.order_N], 1).astype(np.float64)
        follows_NN = _follows(places, offsets, item_count, config.window)
        sessions_SN = _sessions(places, offsets, item_count, config.session_events)
        damped_SN = sessions_SN.multiply(config.session_weight * counts_N[None, :] ** -config.target_exponent).tocsr()
        sources_NS = sessions_SN.T.tocsr()
        source_scale_N = counts_N**-config.source_exponent

        products_N = sources_NS @ np.diff(sessions_SN.indptr)
        blocks = []
        for rows in _blocks(products_N + np.diff(follows_NN.indptr), _ENTRIES_PER_BLOCK):
            block = follows_NN[rows]
            if config.session_weight > 0:
                block = block + sources_NS[rows] @ damped_SN
            scale = sparse.diags_array(source_scale_N[rows])
            blocks.append(_strongest((scale @ block).tocsr(), rows.start, self.neighbours))
        self.similarity_NN = sparse.vstack(blocks, format="csr").astype(np.float32)
        strengths = self.similarity_NN.data
        self.median_strength = float(np.median(strengths)) if len(strengths) else 0.0
        return self

    def scores_of(self, requests: Requests, items_CK: NDArray[np.integer]) -> NDArray[np.float32]:
        """Scores of given items for each request, float32 `[C, K]`; 0 without co-occurrence and for a missing item (-1).

        They equal the scores of item-kNN, except that seen items have scores too.
        """
        item_count = self.similarity_NN.shape[0]
        weights_CN = self.history_weights(requests)
        places_CK = self.order.place_N[np.maximum(items_CK, 0)].astype(np.int64)
        reach_C = self.reach_of(weights_CN)
        scores_CK = np.zeros(items_CK.shape, dtype=np.float32)
        for rows in _blocks(reach_C + items_CK.shape[1], CELLS_PER_CHUNK):
            scored_BN = (weights_CN[rows] @ self.similarity_NN).tocsr()
            scored_BN.sort_indices()
            row = np.repeat(np.arange(scored_BN.shape[0], dtype=np.int64), np.diff(scored_BN.indptr))
            keys = row * item_count + scored_BN.indices
            wanted_BK = np.arange(scored_BN.shape[0], dtype=np.int64)[:, None] * item_count + places_CK[rows]
            where_BK = np.searchsorted(keys, wanted_BK).clip(max=max(len(keys) - 1, 0))
            if len(keys):
                scores_CK[rows] = np.where(keys[where_BK] == wanted_BK, scored_BN.data[where_BK], 0)
        return np.where(items_CK >= 0, scores_CK, np.float32(0))

    def history_weights(self, requests: Requests) -> sparse.csr_array:
        """The weight of each item in each history, summed over its recent events: sparse float32 `[C, N]`, by place."""
        offsets, lengths_C = requests.history_offsets, requests.history_lengths_C
        check_sequences(requests.history_items, offsets, self.similarity_NN.shape[0])
        places = self.order.place_N[requests.history_items]
        age = np.repeat(offsets[1:], lengths_C) - 1 - np.arange(len(places))
        weight = np.power(self.config.decay, age, dtype=np.float64)
        recent = weight >= _WEIGHT_FLOOR
        row = np.repeat(np.arange(len(lengths_C)), lengths_C)
        shape = (len(lengths_C), self.similarity_NN.shape[0])
        return sparse.csr_array((weight[recent].astype(np.float32), (row[recent], places[recent])), shape=shape)

    def reach_of(self, weights_CN: sparse.csr_array) -> NDArray[np.integer]:
        """An upper bound on the number of items with a score per request: all neighbours of the history's items."""
        neighbours = np.diff(self.similarity_NN.indptr)[weights_CN.indices]
        total: NDArray[np.int64] = np.zeros(len(neighbours) + 1, dtype=np.int64)
        np.cumsum(neighbours, out=total[1:])
        reach_C = total[weights_CN.indptr[1:]] - total[weights_CN.indptr[:-1]]
        return np.minimum(reach_C, self.similarity_NN.shape[0])

    def save(self, folder: Path) -> None:
        """Write the counts as arrays that `load` can map into memory."""
        folder.mkdir(parents=True, exist_ok=True)
        table, order = self.similarity_NN, self.order
        arrays: tuple[np.ndarray, ...] = (
            table.data,
            table.indices,
            table.indptr,
            order.counts_N,
            order.order_N,
            np.array(self.median_strength),
        )
        for name, array in zip(_ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array)

    def load(self, folder: Path) -> Self:
        """Read the counts that `save` wrote. Returns itself. Raises OSError or ValueError if they are unreadable."""
        data, indices, indptr, counts_N, order_N, median = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        )
        place_N = np.empty(len(order_N), dtype=np.int32)
        place_N[order_N] = np.arange(len(order_N), dtype=np.int32)
        self.order = PopularityOrder(counts_N, order_N, place_N)
        self.similarity_NN = sparse.csr_array((data, indices, indptr), shape=(len(order_N), len(order_N)))
        self.median_strength = float(median)
        return self


def _follows(places: NDArray[np.int32], offsets: NDArray[np.integer], item_count: int, window: int) -> sparse.csr_array:
    """Forward co-occurrence: entry (i, j) is the sum of 1/g over all cases of j coming g <= window events after i."""
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = sparse.csr_array((item_count, item_count), dtype=np.float64)
    for gap in range(1, window + 1):
        source = np.flatnonzero(user[:-gap] == user[gap:])
        weight = np.full(len(source), 1.0 / gap)
        total = total + sparse.csr_array((weight, (places[source], places[source + gap])), shape=total.shape)
    return total.tocsr()


def _sessions(
    places: NDArray[np.int32], offsets: NDArray[np.integer], item_count: int, session_events: int
) -> sparse.csr_array:
    """Sessions x items, 1 where the session has the item. A user's sessions have `session_events` events each."""
    lengths_U = np.diff(offsets)
    position = np.arange(len(places)) - np.repeat(offsets[:-1], lengths_U)
    session = np.cumsum(position % session_events == 0) - 1
    count = int(session[-1]) + 1 if len(session) else 0
    table = sparse.csr_array((np.ones(len(places)), (session, places)), shape=(count, item_count))
    table.data[:] = 1.0
    return table


def _blocks(cost_N: NDArray[np.integer], budget: int) -> list[slice]:
    """Slices of rows, each with a total cost of about the budget; a single row may cost more."""
    label_N = np.cumsum(cost_N) // budget
    starts = np.flatnonzero(np.diff(label_N, prepend=-1))
    return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(cost_N)], strict=True)]


def _strongest(block: sparse.csr_array, first_row: int, neighbours: int) -> sparse.csr_array:
    """Each row's `neighbours` largest entries, without the item itself; the lower column wins a tie."""
    block.sort_indices()
    lengths = np.diff(block.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    data = np.where(block.indices == row + first_row, 0.0, block.data)
    by_strength = np.lexsort((-data, row))
    rank_in_row = np.arange(len(data)) - block.indptr[row]
    keep = np.sort(by_strength[(rank_in_row < neighbours) & (data[by_strength] > 0)])
    return sparse.csr_array((data[keep], (row[keep], block.indices[keep])), shape=block.shape)
