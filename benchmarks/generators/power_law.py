"""L(x) = E + A / x^alpha: least squares, and intervals by resampling users and training seeds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

ALPHAS = np.geomspace(0.02, 3.0, 600)


@dataclass(frozen=True)
class PowerLaw:
    """Loss in nats as a function of size: `irreducible` is E, `scale` is A, in nats at the size `unit`."""

    irreducible: float
    scale: float
    alpha: float
    unit: float

    def loss(self, sizes: np.ndarray) -> np.ndarray:
        """The fitted loss at some sizes."""
        fitted: np.ndarray = self.irreducible + self.scale * (np.asarray(sizes) / self.unit) ** -self.alpha
        return fitted

    @property
    def coefficient(self) -> float:
        """A for sizes in single parameters or operations, as the reports print it."""
        return float(self.scale * self.unit**self.alpha)


def fit_many(sizes_P: np.ndarray, losses_BP: np.ndarray) -> list[PowerLaw]:
    """The law of least squares for each row of losses.

    A and E are linear for a given alpha, so alpha runs over a fine grid (`ALPHAS`) and no starting point matters. A and E are
    never negative. An alpha at the border of the grid means that the points do not determine it.

    Raises:
        ValueError: fewer than three different sizes.
    """
    if len(np.unique(sizes_P)) < 3:
        raise ValueError("three unknowns need at least three different sizes")
    unit = float(np.exp(np.log(sizes_P).mean()))
    powers_AP = (sizes_P / unit) ** -ALPHAS[:, None]
    centred_AP = powers_AP - powers_AP.mean(axis=1, keepdims=True)
    rest_BP = losses_BP - losses_BP.mean(axis=1, keepdims=True)
    scale_BA = np.maximum(rest_BP @ centred_AP.T / (centred_AP**2).sum(axis=1), 0)
    irreducible_BA = losses_BP.mean(axis=1, keepdims=True) - scale_BA * powers_AP.mean(axis=1)
    # Where E would be negative it is zero, and A alone is fitted.
    without_BA = np.maximum(losses_BP @ powers_AP.T / (powers_AP**2).sum(axis=1), 0)
    negative_BA = irreducible_BA < 0
    scale_BA = np.where(negative_BA, without_BA, scale_BA)
    irreducible_BA = np.where(negative_BA, 0, irreducible_BA)
    fitted_BAP = irreducible_BA[..., None] + scale_BA[..., None] * powers_AP
    best_B = ((losses_BP[:, None] - fitted_BAP) ** 2).sum(axis=-1).argmin(axis=1)
    return [
        PowerLaw(float(irreducible_BA[row, best]), float(scale_BA[row, best]), float(ALPHAS[best]), unit)
        for row, best in enumerate(best_B)
    ]


def fit(sizes_P: np.ndarray, losses_P: np.ndarray) -> PowerLaw:
    """The law of least squares for one row of losses; see `fit_many`."""
    return fit_many(sizes_P, np.asarray(losses_P)[None])[0]


def fit_with_intervals(
    sizes_P: np.ndarray, losses_PSC: np.ndarray, user_C: np.ndarray, samples: int, seed: int
) -> dict[str, Any]:
    """The law, and 95 % percentile intervals of E, A and alpha.

    Args:
        sizes_P: parameters or operations of each point.
        losses_PSC: nats per point, training seed and case; the same cases everywhere.
        user_C: whose case each is; users are resampled with all their cases, the same for all points.
        samples: resamples. Each draws as many users as there are and, per point, as many seeds.
        seed: of the resamples.
    """
    points, seeds, _ = losses_PSC.shape
    rng = np.random.default_rng(seed)
    _, user_C = np.unique(user_C, return_inverse=True)
    users = int(user_C.max()) + 1
    resampled_BP = np.empty((samples, points))
    for row in range(samples):
        weights_C = rng.multinomial(users, np.full(users, 1 / users))[user_C]
        per_seed_PS = losses_PSC @ weights_C / weights_C.sum()
        drawn_PS = rng.integers(seeds, size=(points, seeds))
        resampled_BP[row] = np.take_along_axis(per_seed_PS, drawn_PS, axis=1).mean(axis=1)
    mean_P = losses_PSC.mean(axis=(1, 2))
    law, resampled = fit(sizes_P, mean_P), fit_many(sizes_P, resampled_BP)

    def interval(value: float, values: list[float]) -> dict[str, float]:
        low, high = np.percentile(values, [2.5, 97.5])
        return {"value": value, "low": float(low), "high": float(high)}

    return {
        "alpha": interval(law.alpha, [one.alpha for one in resampled]),
        "irreducible": interval(law.irreducible, [one.irreducible for one in resampled]),
        "coefficient": interval(law.coefficient, [one.coefficient for one in resampled]),
        "fitted": law.loss(sizes_P).tolist(),
        "residuals": (mean_P - law.loss(sizes_P)).tolist(),
        "resamples_at_the_border": float(np.mean([one.alpha in (ALPHAS[0], ALPHAS[-1]) for one in resampled])),
    }
