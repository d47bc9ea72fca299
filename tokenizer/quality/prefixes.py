"""Prefixes of semantic IDs: how items spread over them, and whether they agree with labels."""

from typing import Any

import numpy as np
import polars as pl

from tokenizer.errors import TokenizerError


def prefix_groups(codes_NL: np.ndarray) -> list[np.ndarray]:
    """For each depth 1..L, number the groups of items with the same first codes from 0: int64 [N] each."""
    codes_NL = np.asarray(codes_NL, dtype=np.int64)
    groups, group_N = [], np.zeros(len(codes_NL), dtype=np.int64)
    for level in range(codes_NL.shape[1]):
        key_N = group_N * (int(codes_NL[:, level].max(initial=0)) + 1) + codes_NL[:, level]
        # groups are numbered again at each depth, so that the products stay small for any number of levels
        group_N = np.unique(key_N, return_inverse=True)[1].reshape(-1)
        groups.append(group_N)
    return groups


def prefix_figures(codes_NL: np.ndarray) -> list[dict[str, float]]:
    """For each depth: distinct prefixes, items per prefix on average and at most, and the share of items alone under one.

    At a depth where most items are alone, the remaining codes carry no information about them.
    """
    figures = []
    for depth, group_N in enumerate(prefix_groups(codes_NL), start=1):
        count_G = np.bincount(group_N)
        figures.append(
            {
                "depth": depth,
                "distinct": len(count_G),
                "items_per_prefix": len(group_N) / len(count_G),
                "largest": int(count_G.max()),
                "items_alone": float((count_G == 1).sum() / len(group_N)),
            }
        )
    return figures


def prefix_purity(
    codes_NL: np.ndarray, labels_N: np.ndarray | pl.Series, *, permutations: int = 10, seed: int = 0
) -> list[dict[str, Any]]:
    """Do items with the same first codes have the same label? One entry per depth, as plain JSON values.

    labels_N: one label per item; items with null (None, NaN) are left out. `purity` is the share of items with the most
    frequent label under their prefix. Small groups are pure by chance, and a single item always is. So `chance` is the mean
    purity over `permutations` random permutations of the labels, and `adjusted` is (purity - chance) / (1 - chance): 0 at
    chance, 1 if perfect. `mutual_information` is normalised by the mean of both entropies and has its own
    `mutual_information_chance`. Raises TokenizerError when labels and codes differ in length, or no item has a label.
    """
    labels = labels_N if isinstance(labels_N, pl.Series) else pl.Series("label", labels_N.tolist(), strict=False)
    if len(labels) != len(codes_NL):
        raise TokenizerError(f"prefix purity: {len(labels)} labels for {len(codes_NL)} items; give one label per item.")
    if labels.dtype.is_float():
        labels = labels.fill_nan(None)
    known_N = labels.is_not_null().to_numpy()
    if not known_N.any():
        raise TokenizerError("prefix purity: no item has a label; give a label to at least one item.")
    label_M = labels.drop_nulls().rank("dense").to_numpy().astype(np.int64) - 1
    generator = np.random.default_rng(seed)
    dealt = [generator.permutation(label_M) for _ in range(permutations)]
    label_entropy = entropy_of(np.bincount(label_M))
    figures = []
    for depth, group_M in enumerate(prefix_groups(np.asarray(codes_NL)[known_N]), start=1):
        purity, information = _purity_and_information(group_M, label_M, label_entropy)
        by_chance = np.array([_purity_and_information(group_M, deal_M, label_entropy) for deal_M in dealt])
        chance, chance_information = by_chance.mean(axis=0).tolist()
        figures.append(
            {
                "depth": depth,
                "items": len(label_M),
                "labels": int(label_M.max()) + 1,
                "prefixes": int(group_M.max()) + 1,
                "purity": purity,
                "chance": chance,
                "adjusted": (purity - chance) / (1 - chance) if chance < 1 else 0.0,
                "mutual_information": information,
                "mutual_information_chance": chance_information,
            }
        )
    return figures


def _purity_and_information(group_M: np.ndarray, label_M: np.ndarray, label_entropy: float) -> tuple[float, float]:
    """Purity, and mutual information divided by the mean of both entropies (1 if both are zero)."""
    key, count = np.unique(group_M * (int(label_M.max()) + 1) + label_M, return_counts=True)
    group = key // (int(label_M.max()) + 1)
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    purity = float(np.maximum.reduceat(count, first).sum() / len(label_M))
    group_entropy = entropy_of(np.bincount(group_M))
    scale = (group_entropy + label_entropy) / 2
    information = group_entropy + label_entropy - entropy_of(count)
    return purity, float(np.clip(information / scale, 0, 1)) if scale > 1e-12 else 1.0


def entropy_of(counts: np.ndarray) -> float:
    """Shannon entropy of these counts, in nats."""
    share = counts[counts > 0] / counts.sum()
    return abs(float(-(share * np.log(share)).sum()))
