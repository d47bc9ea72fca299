"""Do new items share their first codes with similar old items?"""

from typing import Any

import numpy as np

from tokenizer.clustering.nearest import row_chunks
from tokenizer.common.vectors import normalise_rows
from tokenizer.quantizers import Quantizer

COMPARED_ITEMS = 2000  # new items compared, an even sample if there are more
SIMILARITY_ELEMENTS = 1 << 22  # similarities computed at once
ROWS = 1 << 12  # rows decoded at once
DEPTHS = 2  # prefixes of one and of two codes


def landing_figures(
    new_ML: np.ndarray, new_vectors_MD: np.ndarray, old_SL: np.ndarray, old_vectors_SD: np.ndarray, k: int = 10
) -> dict[str, Any]:
    """Share of new items with the prefix of at least one of the k most similar old items (by cosine), as JSON values.

    `same_prefix` and `chance` are lists, for prefixes of one and of two codes. `chance` is the share for k random old items.
    `items` and `old_items` are the numbers of items compared; many new items are represented by an even sample.
    """
    k = min(k, len(old_SL))
    rows = np.linspace(0, len(new_ML) - 1, min(len(new_ML), COMPARED_ITEMS)).astype(np.int64)
    near_RK = nearest_by_cosine(new_vectors_MD[rows], old_vectors_SD, k)
    same_prefix, chance = [], []
    for depth in range(1, min(DEPTHS, new_ML.shape[1]) + 1):
        new_RL = new_ML[rows, :depth]
        same_prefix.append(float((old_SL[near_RK, :depth] == new_RL[:, None]).all(axis=2).any(axis=1).mean()))
        _, group, count_G = np.unique(
            np.concatenate([old_SL[:, :depth], new_RL]), axis=0, return_inverse=True, return_counts=True
        )
        group_R = group.reshape(-1)[len(old_SL) :]
        share_R = (count_G - np.bincount(group_R, minlength=len(count_G)))[group_R] / len(old_SL)
        chance.append(float((1 - (1 - share_R) ** k).mean()))
    return {"items": len(rows), "old_items": len(old_SL), "k": k, "same_prefix": same_prefix, "chance": chance}


def nearest_by_cosine(vectors_RD: np.ndarray, old_vectors_SD: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k most similar old vectors, int64 [R,k] in no particular order; computed in blocks."""
    unit_RD, unit_SD = normalise_rows(vectors_RD), normalise_rows(old_vectors_SD)
    blocks = []
    for rows in row_chunks(len(unit_RD), len(unit_SD), SIMILARITY_ELEMENTS):
        similarity = unit_RD[rows] @ unit_SD.T
        blocks.append(np.argpartition(similarity, similarity.shape[1] - k, axis=1)[:, -k:])
    return np.concatenate(blocks)


def reconstruction_error(quantizer: Quantizer, vectors_MD: np.ndarray, codes_MQ: np.ndarray) -> float:
    """Mean squared distance of vectors to the decoded codes, in the space of the input."""
    total = 0.0
    for rows in row_chunks(len(vectors_MD), 1, ROWS):
        total += float(np.square(vectors_MD[rows] - quantizer.decode(codes_MQ[rows])).sum(dtype=np.float64))
    return total / len(vectors_MD)
