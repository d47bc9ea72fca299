"""Weights of features: those that users go by are found, and without data the generator decides."""

from pathlib import Path

import numpy as np
import pytest

from onerec.errors import UserError
from onerec.scorers.linear_weights import LinearWeights

NAMES = ["log_probability", "likeness", "noise"]


def choices(seed: int, requests: int, weights: list[float], candidates: int = 20) -> tuple[np.ndarray, ...]:
    """Features, whether there is a candidate, and which one a user takes who goes by `weights`."""
    draw = np.random.default_rng(seed)
    features = (draw.standard_normal((requests, candidates, 3)) * [2.0, 0.3, 1.0]).astype(np.float32)
    found = np.arange(candidates) < draw.integers(2, candidates + 1, size=requests)[:, None]
    utility = features @ np.array(weights) + draw.gumbel(size=found.shape)
    return features, found, np.where(found, utility, -np.inf).argmax(axis=1)


def test_the_weights_that_users_go_by_are_found() -> None:
    # standard errors here are below .05 (features of spread 2, .3 and 1, 4,000 choices)
    weights_F = LinearWeights.fit(NAMES, *choices(0, 4000, [0.5, 3.0, 0.0])).weights_F
    np.testing.assert_allclose(weights_F, [0.5, 3.0, 0.0], atol=0.2)


def test_without_data_the_generator_decides() -> None:
    features, found, _ = choices(0, 50, [0, 0, 0])
    np.testing.assert_array_equal(LinearWeights.fit(NAMES, features, found, np.full(50, -1)).weights_F, [1, 0, 0])
    few = LinearWeights.fit(NAMES, features[:2], found[:2], np.zeros(2, np.int64)).weights_F
    many = LinearWeights.fit(NAMES, *choices(1, 2000, [-1.0, 0.0, 0.0])).weights_F
    assert abs(few[0] - 1) < 0.5  # two choices hardly move what two thousand turn round
    assert many[0] < -0.9


def test_candidates_share_all_probability() -> None:
    features, found, _ = choices(0, 30, [0, 0, 0])
    scored = LinearWeights(NAMES, np.array([1.0, -2.0, 0.5])).log_probabilities(features, found)
    np.testing.assert_allclose(np.exp(scored).sum(axis=1), 1, rtol=1e-5)
    assert (np.isneginf(scored) == ~found).all()
    nothing = LinearWeights(NAMES, np.ones(3)).log_probabilities(features[:1], np.zeros((1, 20), bool))
    assert np.isneginf(nothing).all()


def test_weights_are_saved_and_their_names_checked(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    LinearWeights(NAMES, np.array([1.0, 0.1, -3.0])).save(path, requests=7)
    np.testing.assert_array_equal(LinearWeights.load(path, NAMES).weights_F, [1.0, 0.1, -3.0])
    with pytest.raises(
        UserError, match=r"weights\.json: has weights for log_probability, likeness, noise, not for likeness"
    ):
        LinearWeights.load(path, ["likeness"])
    path.write_text("[]")
    with pytest.raises(UserError, match="no readable weights"):
        LinearWeights.load(path, NAMES)
