"""Item-kNN with order: what followed the items of this history, and what stood in the same histories, in training.

No parameters are learnt, yet on sparse shopping logs this beats most published sequential models of any size, so it
is the first number a generative model has to pass. The idea is that of the sequence-aware neighbourhood methods in
Ludewig and Jannach, "Evaluation of session-based recommendation algorithms" (User Modeling and User-Adapted
Interaction, 2018).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from onerec.baselines.popularity import Popularity, best_free_places, check_list_length, check_sequences

# An event this much lighter than the newest one cannot move a list's top; without the floor a history of a thousand
# events would be multiplied through in full.
_WEIGHT_FLOOR = 1e-6
_ENTRIES_PER_BLOCK = 1 << 23  # sparse entries of the item matrix built at a time
_CELLS_PER_CHUNK = 1 << 22  # cells of the padded score table per chunk of users, 32 MB
_COLUMN_MASK = (1 << 31) - 1


class ItemKNN:
    """Neighbourhood recommender over training sequences; scores are sums over the history.

    The similarity of a source item i (in the history) and a candidate j is

        s(i, j) = n_i^-a * ( sum over gaps g <= window: follows_g(i, j) / g
                             + session_weight * together(i, j) * n_j^-b )

    where follows_g counts how often j came g events after i, together counts the sessions that hold both, and n are
    training events. A history's newest event weighs 1, the one before `decay`, then decay^2 … The source exponent a
    keeps a popular item of the history from drowning the others; candidates are damped only in the session part (b),
    because there popularity carries no sign of order.

    The defaults were chosen on the validation part of Amazon Beauty. For tests only training events are counted, as for
    every trained model: the validation item belongs to the history, not to the counts.
    """

    def __init__(
        self,
        window: int = 10,
        decay: float = 0.6,
        session_weight: float = 0.5,
        source_exponent: float = 0.4,
        target_exponent: float = 0.35,
        session_events: int = 100,
        neighbours: int = 1000,
        seed: int = 0,
    ) -> None:
        """Settings.

        window: longest gap, in events, that counts as following; >= 1. decay: weight of an event against the next
        newer one, in (0, 1]. session_weight: weight of the unordered part; 0 leaves it out. source_exponent,
        target_exponent: a and b above. session_events: longer histories are cut into sessions of this many events for
        the unordered part: what stands far apart says little, and the cost grows with the square of a session.
        neighbours: candidates kept per source item, the most similar ones. seed: order of items that nothing else
        tells apart. Raises ValueError when one is out of range.
        """
        if window < 1 or session_events < 1 or neighbours < 1:
            raise ValueError("window, session_events and neighbours must be at least 1")
        if not 0 < decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {decay}")
        if session_weight < 0:
            raise ValueError(f"session_weight must not be negative, got {session_weight}")
        self.window = window
        self.decay = decay
        self.session_weight = session_weight
        self.source_exponent = source_exponent
        self.target_exponent = target_exponent
        self.session_events = session_events
        self.neighbours = neighbours
        self.popularity = Popularity(seed)
        # Rows and columns are places in the popularity order, so that a lower column wins a tie: more popular first,
        # then the seeded random priority, never the item's number.
        self.similarity_NN = sparse.csr_array((0, 0), dtype=np.float32)

    def fit(self, item_index: NDArray[np.integer], offsets: NDArray[np.integer], item_count: int) -> "ItemKNN":
        """Count the training sequences (items back to back, oldest first; offsets of the users). Returns itself."""
        self.popularity.fit(item_index, offsets, item_count)
        places = self.popularity.place_N[item_index]
        # The place order is a sort by count, so this is n for each place; an item without events has no entries anyway.
        counts_N = np.maximum(self.popularity.counts_N[self.popularity.order_N], 1).astype(np.float64)
        follows_NN = _follows(places, offsets, item_count, self.window)
        sessions_SN = _sessions(places, offsets, item_count, self.session_events)
        damped_SN = sessions_SN.multiply(self.session_weight * counts_N[None, :] ** -self.target_exponent).tocsr()
        sources_NS = sessions_SN.T.tocsr()
        source_scale_N = counts_N**-self.source_exponent

        products_N = sources_NS @ np.diff(sessions_SN.indptr)
        blocks = []
        for rows in _blocks(products_N + np.diff(follows_NN.indptr), _ENTRIES_PER_BLOCK):
            block = follows_NN[rows]
            if self.session_weight > 0:
                block = block + sources_NS[rows] @ damped_SN
            scale = sparse.diags_array(source_scale_N[rows])
            blocks.append(_strongest((scale @ block).tocsr(), rows.start, self.neighbours))
        self.similarity_NN = sparse.vstack(blocks, format="csr").astype(np.float32)
        return self

    def recommend(
        self,
        history_items: NDArray[np.integer],
        history_offsets: NDArray[np.integer],
        k: int,
        exclude_seen: bool,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k best items for every history (CSR: items back to back, oldest first, offsets C+1).

        Returns items (C x k, int32, -1 where the catalogue is exhausted) and scores (C x k, float32, -inf beside a
        -1). Items without any score fill the list by popularity, with negative scores: always below every scored
        item. Works in chunks of users, so memory does not grow with their number.
        """
        item_count = self.similarity_NN.shape[0]
        check_sequences(history_items, history_offsets, item_count)
        check_list_length(k)
        places = self.popularity.place_N[history_items]
        weights_CN, seen_CN = self._history_tables(places, history_offsets, item_count)
        # Cases that reach equally many candidates share a chunk: the padded table then holds little padding.
        reach_C = np.minimum(_reach(weights_CN.indptr, weights_CN.indices, self.similarity_NN.indptr), item_count)
        order_C = np.argsort(-reach_C, kind="stable")
        cases = len(order_C)
        items_CK = np.full((cases, k), -1, dtype=np.int32)
        scores_CK = np.full((cases, k), -np.inf, dtype=np.float32)
        start = 0
        while start < cases:
            rows = order_C[start : start + max(1, _CELLS_PER_CHUNK // (int(reach_C[order_C[start]]) + k))]
            start += len(rows)
            scored_BN = weights_CN[rows] @ self.similarity_NN
            if exclude_seen:
                # Far below any score: seen items turn negative, and only positive entries are ranked.
                scored_BN = scored_BN - seen_CN[rows] * np.float32(1e30)
            places_BK, scores_BK = _top_places(scored_BN, k)
            _fill(places_BK, scores_BK, scored_BN, item_count)
            scores_CK[rows] = scores_BK
            items_CK[rows] = np.where(places_BK >= 0, self.popularity.order_N[places_BK], -1)
        return items_CK, scores_CK

    def scores_of(
        self, history_items: NDArray[np.integer], history_offsets: NDArray[np.integer], items_CK: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Scores of given items for every history, float32 `[C, K]`; 0 for a padded item (-1) and where nothing speaks
        for one. Of items that `recommend` lists with a positive score these are the same scores, seen or not.
        """
        item_count = self.similarity_NN.shape[0]
        check_sequences(history_items, history_offsets, item_count)
        weights_CN, _ = self._history_tables(self.popularity.place_N[history_items], history_offsets, item_count)
        places_CK = self.popularity.place_N[np.maximum(items_CK, 0)].astype(np.int64)
        reach_C = np.minimum(_reach(weights_CN.indptr, weights_CN.indices, self.similarity_NN.indptr), item_count)
        scores_CK = np.zeros(items_CK.shape, dtype=np.float32)
        for rows in _blocks(reach_C + items_CK.shape[1], _CELLS_PER_CHUNK):
            scored_BN = (weights_CN[rows] @ self.similarity_NN).tocsr()
            scored_BN.sort_indices()
            row = np.repeat(np.arange(scored_BN.shape[0], dtype=np.int64), np.diff(scored_BN.indptr))
            keys = row * item_count + scored_BN.indices
            wanted_BK = np.arange(scored_BN.shape[0], dtype=np.int64)[:, None] * item_count + places_CK[rows]
            where_BK = np.searchsorted(keys, wanted_BK).clip(max=max(len(keys) - 1, 0))
            if len(keys):
                scores_CK[rows] = np.where(keys[where_BK] == wanted_BK, scored_BN.data[where_BK], 0)
        return np.where(items_CK >= 0, scores_CK, np.float32(0))

    def _history_tables(
        self, places: NDArray[np.int32], offsets: NDArray[np.integer], item_count: int
    ) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Histories as sparse rows: summed weights of the recent events, and 1 for every item ever seen."""
        lengths_C = np.diff(offsets)
        shape = (len(lengths_C), item_count)
        row = np.repeat(np.arange(len(lengths_C)), lengths_C)
        age = np.repeat(offsets[1:], lengths_C) - 1 - np.arange(len(places))
        weight = np.power(self.decay, age, dtype=np.float64)
        recent = weight >= _WEIGHT_FLOOR
        weights = sparse.csr_array((weight[recent].astype(np.float32), (row[recent], places[recent])), shape=shape)
        seen = sparse.csr_array((np.ones(len(places), dtype=np.float32), (row, places)), shape=shape)
        seen.data[:] = 1.0
        return weights, seen


def _reach(
    history_offsets: NDArray[np.integer], history_places: NDArray[np.integer], neighbour_offsets: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Upper bound of the candidates each case can score: the neighbours of its history's items, repeats counted."""
    neighbours = np.diff(neighbour_offsets)[history_places]
    total: NDArray[np.int64] = np.zeros(len(neighbours) + 1, dtype=np.int64)
    np.cumsum(neighbours, out=total[1:])
    reach_C: NDArray[np.int64] = total[history_offsets[1:]] - total[history_offsets[:-1]]
    return reach_C


def _follows(places: NDArray[np.int32], offsets: NDArray[np.integer], item_count: int, window: int) -> sparse.csr_array:
    """Forward co-occurrence: entry (i, j) sums 1/g over every time j came g <= window events after i."""
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
    """Sessions x items, 1 where a session holds an item; every session_events events a user starts a new session."""
    lengths_U = np.diff(offsets)
    position = np.arange(len(places)) - np.repeat(offsets[:-1], lengths_U)
    session = np.cumsum(position % session_events == 0) - 1
    count = int(session[-1]) + 1 if len(session) else 0
    table = sparse.csr_array((np.ones(len(places)), (session, places)), shape=(count, item_count))
    table.data[:] = 1.0
    return table


def _blocks(cost_N: NDArray[np.integer], budget: int) -> list[slice]:
    """Runs of rows whose costs add up to about the budget, and to more only where one row alone does."""
    label_N = np.cumsum(cost_N) // budget
    starts = np.flatnonzero(np.diff(label_N, prepend=-1))
    return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(cost_N)], strict=True)]


def _strongest(block: sparse.csr_array, first_row: int, neighbours: int) -> sparse.csr_array:
    """Keep each row's `neighbours` largest entries (ties: lower column), without the item itself."""
    block.sort_indices()
    lengths = np.diff(block.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    data = np.where(block.indices == row + first_row, 0.0, block.data)
    by_strength = np.lexsort((-data, row))
    rank_in_row = np.arange(len(data)) - block.indptr[row]
    keep = np.sort(by_strength[(rank_in_row < neighbours) & (data[by_strength] > 0)])
    return sparse.csr_array((data[keep], (row[keep], block.indices[keep])), shape=block.shape)


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
