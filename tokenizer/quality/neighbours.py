"""Do items that the same people take, one after the other, stay together: as vectors, and as semantic IDs?

Pairs are [P,2] rows of the items table, the item a user had and the one that came next. Pairs that training has not seen
show what the vectors and IDs have understood; pairs from training only show what they were told.
"""

from typing import Any

import numpy as np

from tokenizer.common.vectors import normalise_rows
from tokenizer.errors import TokenizerError
from tokenizer.quality.prefixes import prefix_groups

SIMILARITY_ELEMENTS = 1 << 23  # similarities held at once; 32 MiB of float32
EQUAL = 2e-6  # cosines closer than this are the same but for float32 rounding
HIT_RATE_PAIRS = 20_000  # the share of more pairs than this is known well enough from an even sample
COMPARISONS = 1 << 29  # pairs x items at most, or every tokenization of a large catalogue would wait for its figures


def neighbour_figures(
    vectors_ND: np.ndarray, decoded_ND: np.ndarray, codes_NL: np.ndarray, pairs_P2: np.ndarray, k: int = 10
) -> dict[str, Any]:
    """All figures of this file as plain JSON values: hit rates before and after quantizing, prefix agreement by depth.

    Of many pairs an even sample is used for the hit rates, at most HIT_RATE_PAIRS and no more than COMPARISONS allow;
    `hit_rate_pairs` says how many that were.
    """
    pairs_P2 = _check_pairs(pairs_P2, len(codes_NL))
    if not len(pairs_P2):
        return {"pairs": 0}
    most = min(HIT_RATE_PAIRS, max(1, COMPARISONS // len(codes_NL)))
    shown = np.linspace(0, len(pairs_P2) - 1, min(len(pairs_P2), most)).astype(np.int64)
    return {
        "pairs": len(pairs_P2),
        "prefix_agreement": prefix_agreement(codes_NL, pairs_P2),
        "prefix_agreement_chance": chance_agreement(codes_NL, pairs_P2),
        "k": k,
        "hit_rate_pairs": len(shown),
        "hit_rate_vectors": pair_hit_rate(vectors_ND, pairs_P2[shown], k),
        "hit_rate_decoded": pair_hit_rate(decoded_ND, pairs_P2[shown], k),
        "hit_rate_chance": min(1.0, k / max(len(codes_NL) - 1, 1)),
    }


def prefix_agreement(codes_NL: np.ndarray, pairs_P2: np.ndarray) -> list[float]:
    """Share of pairs whose items have the same first 1, 2 … L codes; pairs of an item with itself do not count.

    0.0 everywhere without any pair. Compare with `chance_agreement`. Raises TokenizerError for rows outside the items.
    """
    pairs_P2 = _check_pairs(pairs_P2, len(codes_NL))
    codes_NL = np.asarray(codes_NL)
    equal_PL = np.logical_and.accumulate(codes_NL[pairs_P2[:, 0]] == codes_NL[pairs_P2[:, 1]], axis=1)
    return [float(share) for share in equal_PL.sum(axis=0) / max(len(pairs_P2), 1)]


def chance_agreement(codes_NL: np.ndarray, pairs_P2: np.ndarray) -> list[float]:
    """What `prefix_agreement` would be, were the second items dealt at random among the first ones.

    Exact, not sampled: the expectation over two different items, drawn as often as the pairs name them on the left and
    on the right. Popular items thus count as much by chance as they do in the pairs.
    """
    pairs_P2 = _check_pairs(pairs_P2, len(codes_NL))
    left_N = np.bincount(pairs_P2[:, 0], minlength=len(codes_NL)).astype(np.float64)
    right_N = np.bincount(pairs_P2[:, 1], minlength=len(codes_NL)).astype(np.float64)
    same_item = float(left_N @ right_N)
    different = left_N.sum() * right_N.sum() - same_item
    if different <= 0:
        return [0.0] * np.asarray(codes_NL).shape[1]
    shares = []
    for group_N in prefix_groups(codes_NL):
        together = float(np.bincount(group_N, left_N) @ np.bincount(group_N, right_N))
        shares.append((together - same_item) / different)
    return shares


def pair_hit_rate(vectors_ND: np.ndarray, pairs_P2: np.ndarray, k: int) -> float:
    """Share of pairs (a, b) where b is among the k items nearest to a by cosine, a itself left out.

    Where several items are as near as b, as decoded vectors often are, the pair counts with the probability that b is
    among the k when equals are shuffled. A vector of zeros is equally far from everything. Memory beyond the vectors and
    one copy of them is bounded. 0.0 without any pair; TokenizerError for rows outside the items or k below 1.
    """
    if k < 1:
        raise TokenizerError(f"pair hit rate: k is {k}; it must be at least 1.")
    pairs_P2 = _check_pairs(pairs_P2, len(vectors_ND))
    if not len(pairs_P2):
        return 0.0
    unit_ND = normalise_rows(vectors_ND)
    pairs_P2 = pairs_P2[np.argsort(pairs_P2[:, 0], kind="stable")]
    rows = max(1, SIMILARITY_ELEMENTS // len(unit_ND))
    hits = 0.0
    for start in range(0, len(pairs_P2), rows):
        left_R, right_R = pairs_P2[start : start + rows].T
        similarity_RN = unit_ND[left_R] @ unit_ND.T
        row_R = np.arange(len(left_R))
        similarity_RN[row_R, left_R] = -np.inf
        reached_R1 = similarity_RN[row_R, right_R][:, None]
        nearer_R = (similarity_RN > reached_R1 + EQUAL).sum(axis=1)
        equal_R = (similarity_RN >= reached_R1 - EQUAL).sum(axis=1) - nearer_R  # b itself is one of them
        hits += float(np.clip((k - nearer_R) / equal_R, 0, 1).sum())
    return hits / len(pairs_P2)


def nearest_items(vectors_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items nearest to each item by cosine, itself left out: rows int64 [N,k] and cosines float32 [N,k].

    Nearest first; among equals any. Fewer than k+1 items give N-1 columns. Memory beyond the result and one copy of the
    vectors is bounded.
    """
    import torch  # its top k takes a sixth of the time of NumPy's partition

    unit_ND = normalise_rows(vectors_ND)
    k = min(k, len(unit_ND) - 1)
    row_NK = np.zeros((len(unit_ND), k), dtype=np.int64)
    cosine_NK = np.zeros((len(unit_ND), k), dtype=np.float32)
    step = max(1, SIMILARITY_ELEMENTS // len(unit_ND))
    for start in range(0, len(unit_ND) if k else 0, step):
        block_RN = unit_ND[start : start + step] @ unit_ND.T
        own_R = np.arange(len(block_RN))
        block_RN[own_R, start + own_R] = -np.inf
        found = torch.topk(torch.from_numpy(block_RN), k, dim=1)
        row_NK[start : start + step] = found.indices.numpy()
        cosine_NK[start : start + step] = found.values.numpy()
    return row_NK, cosine_NK


def _check_pairs(pairs_P2: np.ndarray, items: int) -> np.ndarray:
    """Pairs of different items, int64 [P,2]; TokenizerError for another shape or rows outside the items."""
    pairs = np.asarray(pairs_P2)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise TokenizerError(
            f"item pairs: expected whole numbers of shape [pairs, 2], got {pairs.dtype} {pairs.shape}."
        )
    outside = np.flatnonzero(((pairs < 0) | (pairs >= items)).any(axis=1))
    if len(outside):
        raise TokenizerError(f"item pairs: pair {outside[0]} is {pairs[outside[0]].tolist()}; there are {items} items.")
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
