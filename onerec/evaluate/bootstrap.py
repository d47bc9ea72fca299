"""95 % intervals by resampling users.

The cases of one user are not independent of each other. Each resample therefore draws whole users with replacement, with all
their cases (a cluster bootstrap). Percentiles of the resampled means bound the interval. The drawn users depend only on the seed
and the number of users. Figures of different models on the same cases therefore share their resamples, and intervals of
differences are paired.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = dict[str, float]

PERCENTILES = (2.5, 97.5)
_CELLS_PER_CHUNK = 1 << 21  # 16 MB of resampled user counts at a time, for any number of users


def intervals(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Means over cases with 95 % percentile intervals, for many figures of the same cases at once.

    Args:
        values: one number per case for each figure, by name.
        user_C: the user of each case, any integers.
        samples: number of resamples.
        seed: seed of the resamples.

    Returns:
        {name: {"value", "low", "high"}}.

    Raises:
        ValueError: no cases, lengths that differ, or values that are not finite.
    """
    if len(user_C) == 0:
        raise ValueError("there are no cases to resample, so figures have no intervals")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not values:
        return {}
    sums_UF, counts_U = _sums_per_user(values, user_C)
    means_SF = _resampled_means(sums_UF, counts_U, samples, seed)
    low_F, high_F = np.percentile(means_SF, PERCENTILES, axis=0)
    value_F = sums_UF.sum(axis=0) / counts_U.sum()
    return {
        name: {"value": float(value), "low": float(low), "high": float(high)}
        for name, value, low, high in zip(values, value_F, low_F, high_F, strict=True)
    }


def interval(values_C: ArrayLike, user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0) -> Interval:
    """The 95 % interval of one figure; see `intervals`."""
    return intervals({"figure": values_C}, user_C, samples, seed)["figure"]


def paired_intervals(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    user_C: NDArray[np.integer],
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of first minus second on the same cases, for the figures that both have.

    If an interval excludes zero, the choice of users alone does not explain the difference. Another training seed may still give
    another result.
    """
    shared = [name for name in first if name in second]
    for name in shared:
        if np.shape(first[name]) != np.shape(second[name]):
            raise ValueError(
                f"{name}: pairs need the same cases, got {np.shape(first[name])} and {np.shape(second[name])}"
            )
    return intervals({name: np.subtract(first[name], second[name]) for name in shared}, user_C, samples, seed)


def intervals_over_seeds(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Means over training seeds and cases, with 95 % intervals that cover the choice of both.

    Each resample draws users and seeds with replacement. With few seeds, the estimated spread between seeds is rough, and too
    small on average.

    Args:
        values: one row per training seed for each figure, `[S, C]`, by name; all rows hold the same cases. Pass differences for a
            comparison that is paired by user and by seed.
        user_C, samples, seed: as in `intervals`.

    Raises:
        ValueError: figures with different numbers of seeds, or as from `intervals`.
    """
    rows: dict[str, NDArray[np.float64]] = {}
    seeds = {np.shape(values_SC)[:-1] for values_SC in values.values()}
    if len(seeds) > 1 or any(len(shape) != 1 or not shape[0] for shape in seeds):
        raise ValueError(f"every figure needs as many rows as the others, one per seed; got {sorted(seeds)}")
    for name, values_SC in values.items():
        rows |= {f"{name} {row}": row_C for row, row_C in enumerate(np.asarray(values_SC, dtype=np.float64))}
    if not rows:
        return {}
    means_BFS = _resampled_means(*_sums_per_user(rows, user_C), samples, seed).reshape(samples, len(values), -1)
    drawn_BS = np.random.default_rng(seed + 1).integers(means_BFS.shape[2], size=(samples, means_BFS.shape[2]))
    drawn_BF = np.take_along_axis(means_BFS, drawn_BS[:, None], axis=2).mean(axis=2)
    low_F, high_F = np.percentile(drawn_BF, PERCENTILES, axis=0)
    return {
        name: {"value": float(np.mean(np.asarray(values_SC, dtype=np.float64))), "low": float(low), "high": float(high)}
        for (name, values_SC), low, high in zip(values.items(), low_F, high_F, strict=True)
    }


def _sums_per_user(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each user's sum of every figure, `[U, F]`, and number of cases, `[U]`. Resamples need nothing else."""
    users, row_C = np.unique(user_C, return_inverse=True)
    columns = []
    for name, values_C in values.items():
        column_C = np.asarray(values_C, dtype=np.float64)
        if column_C.shape != user_C.shape:
            raise ValueError(f"{name}: {column_C.shape} values for {user_C.shape} cases")
        if not np.isfinite(column_C).all():
            raise ValueError(f"{name}: every case needs a finite value")
        columns.append(np.bincount(row_C, weights=column_C, minlength=len(users)))
    return np.stack(columns, axis=1), np.bincount(row_C, minlength=len(users)).astype(np.float64)


def _resampled_means(
    sums_UF: NDArray[np.float64], counts_U: NDArray[np.float64], samples: int, seed: int
) -> NDArray[np.float64]:
    """Means over the cases of U users drawn with replacement, `[samples, F]`."""
    generator = np.random.default_rng(seed)
    users = len(counts_U)
    totals_UF = np.concatenate([sums_UF, counts_U[:, None]], axis=1)
    chunk = max(1, min(samples, _CELLS_PER_CHUNK // users))
    means = []
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        # Counting uniform draws gives an exact multinomial sample, and is far cheaper than a binomial draw per user.
        drawn_RU = generator.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        weights_RU = np.bincount(drawn_RU.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
        resampled_RF = weights_RU @ totals_UF
        means.append(resampled_RF[:, :-1] / resampled_RF[:, -1:])
    return np.concatenate(means)
