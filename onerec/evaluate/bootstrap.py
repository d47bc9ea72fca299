"""95 % intervals by resampling users.

The cases of one user are not independent of each other, so whole users are drawn with replacement, each with all
their cases (a cluster bootstrap), and the percentiles of the resampled means bound the interval. Which users are
drawn depends on the seed and the number of users alone: figures of different models on the same cases share their
resamples, and the interval of a difference is therefore a paired one.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = dict[str, float]

_PERCENTILES = (2.5, 97.5)
_CELLS_PER_CHUNK = 1 << 21  # 16 MB of resampled user counts at a time, whatever the number of users


def intervals(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Mean over cases and its 95 % percentile interval, for many figures of the same cases in one go.

    values: figure name -> one number per case. user_C: which user each case belongs to, any integers.
    Returns {name: {"value", "low", "high"}}. Raises ValueError for no cases, lengths that differ or values not finite.
    """
    if len(user_C) == 0:
        raise ValueError("no cases to resample: a figure without cases has no interval")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not values:
        return {}
    sums_UF, counts_U = _sums_per_user(values, user_C)
    means_SF = _resampled_means(sums_UF, counts_U, samples, seed)
    low_F, high_F = np.percentile(means_SF, _PERCENTILES, axis=0)
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
    """Intervals of first minus second for the figures both have, case by case on the same users.

    An interval that excludes zero says the two differ beyond what the choice of users explains. It says nothing about
    what another training seed would give.
    """
    shared = [name for name in first if name in second]
    for name in shared:
        if np.shape(first[name]) != np.shape(second[name]):
            raise ValueError(
                f"{name}: {np.shape(first[name])} cases against {np.shape(second[name])}; pairs need equal"
            )
    return intervals({name: np.subtract(first[name], second[name]) for name in shared}, user_C, samples, seed)


def paired_interval(
    first_C: ArrayLike, second_C: ArrayLike, user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> Interval:
    """The 95 % interval of one difference, first minus second; see `paired_intervals`."""
    return paired_intervals({"figure": first_C}, {"figure": second_C}, user_C, samples, seed)["figure"]


def intervals_over_seeds(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Means over training seeds and cases with 95 % intervals that hold both: users and seeds are drawn with replacement.

    values: figure name -> one row per training seed `[S, C]`, the same cases in each. Hand in differences for a comparison paired
    by user and by seed. With the few seeds one can afford the spread between seeds is itself a rough estimate, and too small on
    average.
    """
    rows: dict[str, NDArray[np.float64]] = {}
    seeds = {np.shape(values_SC)[:-1] for values_SC in values.values()}
    if len(seeds) > 1 or any(len(shape) != 1 or not shape[0] for shape in seeds):
        raise ValueError(f"expected as many rows for every figure, one per seed, got {sorted(seeds)}")
    for name, values_SC in values.items():
        rows |= {f"{name} {row}": row_C for row, row_C in enumerate(np.asarray(values_SC, dtype=np.float64))}
    if not rows:
        return {}
    means_BFS = _resampled_means(*_sums_per_user(rows, user_C), samples, seed).reshape(samples, len(values), -1)
    drawn_BS = np.random.default_rng(seed + 1).integers(means_BFS.shape[2], size=(samples, means_BFS.shape[2]))
    drawn_BF = np.take_along_axis(means_BFS, drawn_BS[:, None], axis=2).mean(axis=2)
    low_F, high_F = np.percentile(drawn_BF, _PERCENTILES, axis=0)
    return {
        name: {"value": float(np.mean(np.asarray(values_SC, dtype=np.float64))), "low": float(low), "high": float(high)}
        for (name, values_SC), low, high in zip(values.items(), low_F, high_F, strict=True)
    }


def interval_over_seeds(
    values_SC: ArrayLike, user_C: NDArray[np.integer], samples: int = 1000, seed: int = 0
) -> Interval:
    """The 95 % interval of one figure; see `intervals_over_seeds`."""
    return intervals_over_seeds({"figure": values_SC}, user_C, samples, seed)["figure"]


def _sums_per_user(
    values: Mapping[str, ArrayLike], user_C: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per user the sum of every figure (users x figures) and the number of cases: all that a resample has to weigh."""
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
    """Means over cases (samples x figures), each over as many users as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    users = len(counts_U)
    totals_UF = np.concatenate([sums_UF, counts_U[:, None]], axis=1)
    chunk = max(1, min(samples, _CELLS_PER_CHUNK // users))
    means = []
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        # Counting uniform draws is an exact multinomial sample and far cheaper than a binomial draw per user.
        drawn_RU = generator.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        weights_RU = np.bincount(drawn_RU.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
        resampled_RF = weights_RU @ totals_UF
        means.append(resampled_RF[:, :-1] / resampled_RF[:, -1:])
    return np.concatenate(means)
