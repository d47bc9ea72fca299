"""The fit of L(x) = E + A / x^alpha: it finds laws that hold, and says when points do not determine one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.generators.power_law import ALPHAS, fit, fit_with_intervals

SIZES = np.array([2e4, 6e4, 2e5, 8e5, 3e6])


@given(st.floats(0.1, 1.5), st.floats(0.5, 5.0), st.floats(0.1, 2.0))
def test_a_law_without_noise_is_found(alpha: float, irreducible: float, at_the_middle: float) -> None:
    unit = np.exp(np.log(SIZES).mean())
    losses = irreducible + at_the_middle * (SIZES / unit) ** -alpha
    found = fit(SIZES, losses)
    assert found.alpha == pytest.approx(alpha, rel=0.005)  # neighbours of the grid are .84 % apart
    assert np.abs(found.loss(SIZES) - losses).max() < 2e-3 * np.ptp(losses) + 1e-9


def test_the_law_that_the_report_prints_follows_from_its_table() -> None:
    """OneRec-V2: 3.13 + 3660 / N^0.489 over its seven dense sizes, whose losses are rounded to two digits."""
    sizes = np.array([0.1, 0.2, 0.5, 1, 2, 4, 8]) * 1e9
    found = fit(sizes, np.array([3.57, 3.46, 3.33, 3.27, 3.23, 3.20, 3.19]))
    assert found.alpha == pytest.approx(0.489, abs=0.03)
    assert found.irreducible == pytest.approx(3.13, abs=0.02)
    assert 1500 < found.coefficient < 8000  # nine digits of N stand between it and the data


def test_neither_part_is_negative() -> None:
    straight = fit(SIZES, 10 - np.log(SIZES))  # falls faster than any law with E >= 0 and a large alpha would
    assert straight.irreducible >= 0
    rising = fit(SIZES, np.log(SIZES))
    assert rising.scale == 0
    with pytest.raises(ValueError, match="three different sizes"):
        fit(SIZES[[0, 1, 1]], np.ones(3))


def test_intervals_hold_the_truth_and_grow_with_the_noise() -> None:
    rng = np.random.default_rng(0)
    truth = 2 + (SIZES / 2e5) ** -0.5
    users = np.repeat(np.arange(150), 2)
    of_users = rng.normal(size=150)[users]  # some users are harder, for all sizes alike: that moves E, not alpha

    def spread(noise: float) -> float:
        losses = truth[:, None, None] + of_users + noise * rng.normal(size=(5, 2, 300))
        found = fit_with_intervals(SIZES, losses, users, samples=200, seed=0)
        for name, true in (("alpha", 0.5), ("irreducible", 2.0)):
            assert found[name]["low"] < true < found[name]["high"]
        assert max(map(abs, found["residuals"])) < 10 * noise
        return found["alpha"]["high"] - found["alpha"]["low"]

    assert spread(0.02) < 0.1 < spread(1.0)


def test_points_that_say_nothing_are_reported_as_such() -> None:
    flat = np.full((5, 1, 40), 3.0) + 1e-3 * np.random.default_rng(0).normal(size=(5, 1, 40))
    found = fit_with_intervals(SIZES, flat, np.arange(40), samples=100, seed=0)
    assert found["resamples_at_the_border"] > 0.2
    assert found["alpha"]["low"] == ALPHAS[0] or found["alpha"]["high"] == ALPHAS[-1]
