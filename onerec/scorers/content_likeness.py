"""The likeness of candidates to a history, by item vectors."""

import numpy as np

from onerec.data.padding import batches_of_like_length, padded_places
from onerec.data.requests import Requests
from tokenizer.common.vectors import normalise_rows

HISTORY_EVENTS = 50  # newest events of a history that count
CELLS_PER_CHUNK = 1 << 22  # cosines, or elements of gathered histories, in memory at a time
ELEMENTS = 1 << 23  # similarities and gathered vectors in memory at a time; 32 MiB of float32


def history_means(unit_ND: np.ndarray, requests: Requests, decay: float) -> np.ndarray:
    """The weighted mean of each history's newest events, scaled to length one, float32 `[C, D]`.

    Args:
        unit_ND: vectors of all items, of length one or zero.
        decay: weight of an event relative to the next newer one; the newest weighs 1.
    """
    lengths_C = np.minimum(requests.history_lengths_C, HISTORY_EVENTS)
    newest_C = requests.history_offsets[1:] - 1
    means_CD = np.empty((len(lengths_C), unit_ND.shape[1]), np.float32)
    longest = int(lengths_C.max(initial=0))
    chunk = max(1, CELLS_PER_CHUNK // max(1, longest * unit_ND.shape[1]))
    for start in range(0, len(lengths_C), chunk):
        rows = slice(start, start + chunk)
        places_BT, inside_BT = padded_places(newest_C[rows], lengths_C[rows], step=-1, width=longest)
        history_BTD = unit_ND[requests.history_items[places_BT]]
        weights_BT = np.where(inside_BT, decay ** np.arange(longest), 0).astype(np.float32)
        means_CD[rows] = np.einsum("bt,btd->bd", weights_BT, history_BTD)
    return normalise_rows(means_CD, 0.0)


def likeness_features(
    unit_ND: np.ndarray, requests: Requests, items_CK: np.ndarray, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Each item's cosine with the mean of the history, and its largest cosine with an event, float32 `[C, K]` each.

    Args:
        items_CK: items to compare, none of them missing.
        unit_ND, decay: as in `history_means`.
    """
    lengths_C, newest_C = np.minimum(requests.history_lengths_C, HISTORY_EVENTS), requests.history_offsets[1:] - 1
    mean_CK, most_CK = np.empty(items_CK.shape, np.float32), np.empty(items_CK.shape, np.float32)
    width = items_CK.shape[1] * (unit_ND.shape[1] + HISTORY_EVENTS)
    means_CD = history_means(unit_ND, requests, decay)
    for rows in batches_of_like_length(lengths_C, max(1, ELEMENTS // width)):
        places_RT, inside_RT = padded_places(newest_C[rows], lengths_C[rows], step=-1)
        history_RTD = unit_ND[requests.history_items[places_RT]]
        cosines_RKT = np.matmul(unit_ND[items_CK[rows]], history_RTD.transpose(0, 2, 1))
        most_CK[rows] = np.where(inside_RT[:, None], cosines_RKT, -1).max(axis=-1)
        mean_CK[rows] = np.matmul(unit_ND[items_CK[rows]], means_CD[rows][..., None])[..., 0]
    return mean_CK, most_CK
