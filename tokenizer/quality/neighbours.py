"""Are consecutive items of a user similar, as vectors and as semantic IDs?

Pairs are [P,2] rows of the items table: an item of a user and the next one. Use pairs that training has not seen; pairs from
training would only show what was learnt by heart.
"""

from typing import Any

import numpy as np

from tokenizer.common.vectors import normalise_rows
from tokenizer.errors import TokenizerError
from tokenizer.quality.prefixes import prefix_groups

SIMILARITY_ELEMENTS = 1 << 23  # similarities computed at once; 32 MiB of float32
EQUAL = 2e-6  # cosines that differ by less are equal, up to float32 rounding
HIT_RATE_PAIRS = 20_000  # an even sample of this many pairs is precise enough
COMPARISONS = (
    1 << 29
)  # pairs x items, at most, so that these figures do not delay the tokenization of a large catalogue


def neighbour_figures(
    vectors_ND: np.ndarray, decoded_ND: np.ndarray, codes_NL: np.ndarray, pairs_P2: np.ndarray, k: int = 10
) -> dict[str, Any]:
    """Hit rates before and after quantization, and prefix agreement by depth, as plain JSON values.

    Hit rates use an even sample of the pairs, limited by HIT_RATE_PAIRS and COMPARISONS; `hit_rate_pairs` is its size.
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
    """Share of pairs whose items have the same first 1, 2 … L codes. Pairs of an item with itself do not count.

    The shares are 0.0 if there is no pair. Compare them with `chance_agreement`. TokenizerError for rows outside the items.
    """
    pairs_P2 = _check_pairs(pairs_P2, len(codes_NL))
    codes_NL = np.asarray(codes_NL)
    equal_PL = np.logical_and.accumulate(codes_NL[pairs_P2[:, 0]] == codes_NL[pairs_P2[:, 1]], axis=1)
    return [float(share) for share in equal_PL.sum(axis=0) / max(len(pairs_P2), 1)]


def chance_agreement(codes_NL: np.ndarray, pairs_P2: np.ndarray) -> list[float]:
    """Expected `prefix_agreement` if the second items were assigned to the first items at random.

    The expectation is exact, over pairs of different items drawn with the frequencies of the first and the second items. So
    popular items count as much as they do in the pairs.
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
    """Share of pairs (a, b) in which b is among the k items nearest to a by cosine, not counting a itself.

    Several items may be as near as b, as is common for decoded vectors. The pair then counts with the probability that b is
    among the k nearest in a random order of equals. A zero vector is equally far from every item. Memory is bounded, beyond
    the vectors and one copy of them. The share is 0.0 if there is no pair. TokenizerError for rows outside the items.
    """
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
        equal_R = (similarity_RN >= reached_R1 - EQUAL).sum(axis=1) - nearer_R  # including b
        hits += float(np.clip((k - nearer_R) / equal_R, 0, 1).sum())
    return hits / len(pairs_P2)


def nearest_items(vectors_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k other items nearest to each item by cosine: rows int64 [N,k] and cosines float32 [N,k].

    The nearest item comes first; equals come in any order. With fewer than k+1 items there are N-1 columns. Memory is
    bounded, beyond the result and one copy of the vectors.
    """
    import torch  # its topk is six times as fast as NumPy's partition

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
    """Return pairs of different items as int64 [P,2]; TokenizerError for a wrong shape or rows outside the items."""
    pairs = np.asarray(pairs_P2)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise TokenizerError(
            f"item pairs: expected whole numbers of shape [pairs, 2], got {pairs.dtype} {pairs.shape}."
        )
    outside = np.flatnonzero(((pairs < 0) | (pairs >= items)).any(axis=1))
    if len(outside):
        raise TokenizerError(f"item pairs: pair {outside[0]} is {pairs[outside[0]].tolist()}; there are {items} items.")
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
