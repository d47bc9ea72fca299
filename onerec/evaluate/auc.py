"""AUC, GAUC and calibration of predicted probabilities, with 95 % intervals over users.

Impressions of one user are not independent, so intervals resample users with all their impressions. The drawn users depend only
on the seed and the number of users. Scores of the same impressions therefore share their resamples, and intervals of differences
are paired.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from onerec.evaluate.bootstrap import PERCENTILES, Interval, interval


def auc(labels_E: np.ndarray, scores_E: np.ndarray) -> float:
    """The probability that a positive scores above a negative. Ties count half. NaN without positives or without negatives.

    Args:
        labels_E: 0 or 1.
        scores_E: any numbers.
    """
    return float(_weighted_auc(labels_E, *_tied_groups(scores_E), np.ones(len(labels_E))))


def _tied_groups(scores_E: np.ndarray) -> tuple[np.ndarray, int]:
    """The rank of each score among the distinct scores, and the number of distinct scores."""
    different, groups_E = np.unique(scores_E, return_inverse=True)
    return groups_E, len(different)


def _weighted_auc(labels_E: np.ndarray, groups_E: np.ndarray, groups: int, weights_E: np.ndarray) -> np.float64:
    positive_G = np.bincount(groups_E, weights_E * labels_E, groups)
    negative_G = np.bincount(groups_E, weights_E * (1 - labels_E), groups)
    pairs = positive_G.sum() * negative_G.sum()
    won = positive_G @ (np.cumsum(negative_G) - negative_G / 2)
    return np.float64(won / pairs if pairs > 0 else np.nan)


def auc_resamples(
    labels_E: np.ndarray, scores_E: np.ndarray, users_E: np.ndarray, samples: int, seed: int
) -> np.ndarray:
    """AUC of each resample of users, float64 `[samples]`; NaN for a resample without positives or without negatives."""
    _, row_E = np.unique(users_E, return_inverse=True)
    users = int(row_E.max(initial=-1)) + 1
    # After one sort by score, every resample reads memory in order.
    order = np.argsort(scores_E, kind="stable")
    groups_E, groups = _tied_groups(scores_E[order])
    labels_E, row_E = labels_E[order], row_E[order]
    draw = np.random.default_rng(seed)
    found = np.empty(samples)
    for sample in range(samples):
        counts_U = np.bincount(draw.integers(users, size=users), minlength=users).astype(np.float64)
        found[sample] = _weighted_auc(labels_E, groups_E, groups, counts_U[row_E])
    return found


def with_interval(value: float, resamples: np.ndarray) -> Interval | None:
    """A figure with the percentiles of its resamples; None if the figure or every resample is NaN."""
    resamples = resamples[~np.isnan(resamples)]
    if np.isnan(value) or not len(resamples):
        return None
    low, high = np.percentile(resamples, PERCENTILES)
    return {"value": float(value), "low": float(low), "high": float(high)}


def auc_intervals(
    labels_E: np.ndarray,
    scores: Mapping[str, np.ndarray],
    users_E: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
    differences: Sequence[tuple[str, str]] = (),
) -> dict[str, Interval | None]:
    """AUC of each score over all impressions with its 95 % interval; None without positives or without negatives.

    Each pair of names in `differences` adds the paired difference of the two as "first - second".
    """
    values = {name: auc(labels_E, scores_E) for name, scores_E in scores.items()}
    resamples = {name: auc_resamples(labels_E, scores_E, users_E, samples, seed) for name, scores_E in scores.items()}
    found = {name: with_interval(values[name], resamples[name]) for name in scores}
    for first, second in differences:
        difference = resamples[first] - resamples[second]
        found[f"{first} - {second}"] = with_interval(values[first] - values[second], difference)
    return found


def auc_per_user(labels_E: np.ndarray, scores_E: np.ndarray, users_E: np.ndarray) -> np.ndarray:
    """The AUC of each impression's user, float64 `[E]`; NaN if the user has only positives or only negatives."""
    _, row_E = np.unique(users_E, return_inverse=True)
    groups_E, groups = _tied_groups(scores_E)
    # Impressions with the same user and score share a cell. The cells of a user are in the order of their scores.
    cells, cell_E = np.unique(row_E.astype(np.int64) * max(groups, 1) + groups_E, return_inverse=True)
    positive_C = np.bincount(cell_E, labels_E, len(cells))
    negative_C = np.bincount(cell_E, 1 - labels_E, len(cells))
    user_C = cells // max(groups, 1)
    users = int(row_E.max(initial=-1)) + 1
    positive_U, negative_U = np.bincount(user_C, positive_C, users), np.bincount(user_C, negative_C, users)
    before_C = np.cumsum(negative_C) - negative_C - (np.cumsum(negative_U) - negative_U)[user_C]
    won_U = np.bincount(user_C, positive_C * (before_C + negative_C / 2), users)
    pairs_U = positive_U * negative_U
    auc_U = np.divide(won_U, pairs_U, out=np.full(users, np.nan), where=pairs_U > 0)
    return auc_U[row_E]


def gauc_interval(
    labels_E: np.ndarray, scores_E: np.ndarray, users_E: np.ndarray, samples: int = 1000, seed: int = 0
) -> Interval | None:
    """Mean AUC within users, weighted by impressions, with its 95 % interval; None if no user has both labels."""
    auc_E = auc_per_user(labels_E, scores_E, users_E)
    counted = ~np.isnan(auc_E)
    if not counted.any():
        return None
    return interval(auc_E[counted], users_E[counted], samples, seed)


def calibration(labels_E: np.ndarray, probabilities_E: np.ndarray, bins: int = 10) -> dict[str, float | None]:
    """How far predicted probabilities are from observed labels.

    Returns:
        "observed": the share of positives. "ratio": mean prediction over that share, None without positives. "error": the
        expected calibration error, which is the mean distance between the two in `bins` groups of equal size, sorted by
        probability.
    """
    observed, predicted = float(labels_E.mean()), float(probabilities_E.mean())
    order = np.argsort(probabilities_E, kind="stable")
    distances = [abs(float((labels_E[rows] - probabilities_E[rows]).sum())) for rows in np.array_split(order, bins)]
    return {
        "observed": observed,
        "ratio": predicted / observed if observed > 0 else None,
        "error": sum(distances) / len(labels_E),
    }
