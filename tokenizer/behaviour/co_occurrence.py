"""Collaborative vectors: items that occur near each other in training sequences get similar vectors.

All events passed in are used, so pass training sequences only: for leave-one-out, every user's events but the last two.
"""

import numpy as np
from scipy import sparse

from tokenizer.common.vectors import normalise_rows, reduce_dimensions
from tokenizer.errors import TokenizerError

CONTEXT_SMOOTHING = 0.75  # flattens the context distribution; otherwise rare items have the largest PMI
PAIRS_AT_A_TIME = 1 << 22
NEIGHBOURS = 10
SIMILARITY_ELEMENTS = 1 << 23  # cold x warm similarities held at once; 32 MiB of float32


def collaborative_vectors(
    item_index: np.ndarray,
    offsets: np.ndarray,
    item_count: int,
    *,
    dimensions: int = 64,
    window: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Truncated SVD of positive pointwise mutual information of co-occurrence, float32 [N, <= dimensions].

    item_index: rows of the items table, all training sequences one after the other. offsets: int [U+1], the start of each
    sequence and the end of the last. Two events of a sequence that are at most `window` steps apart count 1/steps. Rows are
    scaled by the square root of the singular values (Levy, Goldberg and Dagan 2015). Items without a co-occurrence get
    zeros, see `fill_cold`. Raises TokenizerError when an index is not an item's row or the offsets do not fit the events.
    """
    counts_NN = co_occurrence(item_index, offsets, item_count, window)
    ppmi_NN = positive_pmi(counts_NN)
    scaled_NW = reduce_dimensions(ppmi_NN, dimensions, seed)  # U S
    scaled_NW[np.diff(ppmi_NN.indptr) == 0] = 0  # the SVD leaves rounding errors here, which are not behaviour
    singular_W = np.linalg.norm(scaled_NW, axis=0)
    return np.asarray(scaled_NW / np.sqrt(np.where(singular_W > 0, singular_W, 1)), dtype=np.float32)


def co_occurrence(item_index: np.ndarray, offsets: np.ndarray, item_count: int, window: int) -> sparse.csr_matrix:
    """Symmetric counts [N,N]: the sum of 1/gap over pairs of events of a sequence with gap <= window; zero diagonal."""
    item_index, offsets = check_sequences(item_index, offsets, item_count)
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = sparse.csr_matrix((item_count, item_count), dtype=np.float64)
    for gap in range(1, window + 1):
        earlier, later = item_index[:-gap], item_index[gap:]
        kept = (sequence[:-gap] == sequence[gap:]) & (earlier != later)
        weight = np.full(int(kept.sum()), 1.0 / gap)
        total = total + sparse.csr_matrix((weight, (earlier[kept], later[kept])), shape=total.shape)
    return sparse.csr_matrix(total + total.T)


def positive_pmi(counts_NN: sparse.csr_matrix) -> sparse.csr_matrix:
    """max(0, log(p(a,b) / (p(a) p'(b)))) of every counted pair, where p' is the smoothed context distribution."""
    item_N = np.asarray(counts_NN.sum(axis=1)).ravel()
    context_N = item_N**CONTEXT_SMOOTHING
    total = context_N.sum()
    pmi = np.empty(counts_NN.nnz)
    kept_N = np.zeros(len(item_N), dtype=np.int64)
    # A block of rows at a time: the row numbers of all pairs would take more memory than the counts.
    rows = np.arange(len(item_N))
    for block in np.split(rows, np.flatnonzero(np.diff(counts_NN.indptr[:-1] // PAIRS_AT_A_TIME)) + 1):
        entries = slice(counts_NN.indptr[block[0]], counts_NN.indptr[block[-1] + 1])
        row = np.repeat(block, np.diff(counts_NN.indptr[block[0] : block[-1] + 2]))
        with np.errstate(divide="ignore"):
            scale = item_N[row] * context_N[counts_NN.indices[entries]]
            pmi[entries] = np.log(counts_NN.data[entries] * total / scale)
        kept_N[block] = np.bincount(row[pmi[entries] > 0] - block[0], minlength=len(block))
    kept = pmi > 0
    starts = np.concatenate([[0], np.cumsum(kept_N)])
    return sparse.csr_matrix((pmi[kept], counts_NN.indices[kept], starts), shape=counts_NN.shape)


def fill_cold(collaborative_ND: np.ndarray, content_NE: np.ndarray, has_events: np.ndarray) -> np.ndarray:
    """Give items without behaviour the mean collaborative vector of the items with the most similar content, float32 [N,D].

    has_events: bool [N], False for rows to fill. The mean is weighted by cosine similarity and taken over the NEIGHBOURS most
    similar rows with events. All rows are normalised first, so that no neighbour counts more by its length, and the results
    are normalised too. A row stays zero when no item has events or none has similar content. Memory is bounded.
    """
    has_events = np.asarray(has_events, dtype=bool)
    filled_ND = normalise_rows(collaborative_ND)
    warm, cold = np.flatnonzero(has_events), np.flatnonzero(~has_events)
    filled_ND[cold] = 0
    if not len(warm) or not len(cold):
        return filled_ND
    content_NE = normalise_rows(content_NE)
    warm_WE, warm_WD = content_NE[warm], filled_ND[warm]
    nearest = min(NEIGHBOURS, len(warm))
    rows = max(1, SIMILARITY_ELEMENTS // len(warm))
    for start in range(0, len(cold), rows):
        block = cold[start : start + rows]
        similarity_RW = content_NE[block] @ warm_WE.T
        neighbours_RK = np.argpartition(-similarity_RW, nearest - 1, axis=1)[:, :nearest]
        weight_RK = np.take_along_axis(similarity_RW, neighbours_RK, axis=1).clip(min=0)
        filled_ND[block] = normalise_rows(np.einsum("rk,rkd->rd", weight_RK, warm_WD[neighbours_RK]))
    return filled_ND


def check_sequences(item_index: np.ndarray, offsets: np.ndarray, item_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both as int64; TokenizerError unless the offsets divide the events and every event names an item's row."""
    item_index, offsets = np.asarray(item_index, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(item_index):
        raise TokenizerError(f"offsets must run from 0 to the number of events ({len(item_index)}).")
    if (np.diff(offsets) < 0).any():
        raise TokenizerError("offsets must not decrease.")
    outside = np.flatnonzero((item_index < 0) | (item_index >= item_count))
    if len(outside):
        raise TokenizerError(
            f"event {outside[0]} names item row {item_index[outside[0]]}; there are {item_count} items."
        )
    return item_index, offsets
