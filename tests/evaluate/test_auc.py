"""AUC, GAUC and calibration against scikit-learn and loops; intervals that resample users."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from onerec.evaluate.auc import auc, auc_intervals, auc_per_user, auc_resamples, calibration, gauc_interval


def impressions(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with ties, and users whose impressions do not stand together."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 8, count) / 8
    labels = (draw.random(count) < scores * 0.8 + 0.1).astype(np.float64)
    return labels, scores, draw.integers(0, 7, count)


@given(st.integers(0, 10_000))
def test_auc_equals_that_of_scikit_learn(seed: int) -> None:
    labels, scores, _ = impressions(seed)
    if 0 < labels.sum() < len(labels):
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(st.integers(0, 10_000))
def test_auc_within_users_equals_a_loop_over_them(seed: int) -> None:
    labels, scores, users = impressions(seed)
    found = auc_per_user(labels, scores, users)
    weighted = []
    for user in set(users.tolist()):
        mine = users == user
        if len(set(labels[mine])) == 2:
            expected = roc_auc_score(labels[mine], scores[mine])
            np.testing.assert_allclose(found[mine], expected, atol=1e-12)
            weighted.append((expected, mine.sum()))
        else:
            assert np.isnan(found[mine]).all()
    gauc = gauc_interval(labels, scores, users, samples=50)
    if weighted:
        assert gauc is not None
        values, counts = zip(*weighted, strict=True)
        assert gauc["value"] == pytest.approx(np.average(values, weights=counts))
    else:
        assert gauc is None


def test_a_resample_repeats_whole_users() -> None:
    labels, scores, users = impressions(1)
    found = auc_resamples(labels, scores, users, samples=5, seed=3)
    different = np.unique(users)
    draw = np.random.default_rng(3)
    for value in found:
        drawn = draw.integers(len(different), size=len(different))
        rows = np.concatenate([np.flatnonzero(users == different[one]) for one in drawn])
        assert value == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=1e-12)


def test_differences_are_paired() -> None:
    labels, scores, users = impressions(2, 400)
    shifted = scores + 1  # the same order
    noise = np.random.default_rng(0).random(400)
    found = auc_intervals(labels, {"a": scores, "b": shifted, "c": noise}, users, 200, 0, [("a", "b"), ("a", "c")])
    assert found["a - b"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["a"] is not None and found["c"] is not None and found["a - c"] is not None
    assert found["a - c"]["value"] == pytest.approx(found["a"]["value"] - found["c"]["value"])
    assert 0 < found["a - c"]["low"] < found["a - c"]["value"] < found["a - c"]["high"]
    assert found["a"]["low"] < found["a"]["value"] < found["a"]["high"]


def test_without_both_labels_there_is_no_figure() -> None:
    scores, users = np.array([0.1, 0.2]), np.array([0, 1])
    found = auc_intervals(np.ones(2), {"a": scores}, users, 10, 0, [("a", "a")])
    assert found == {"a": None, "a - a": None}
    assert gauc_interval(np.array([0.0, 1.0]), scores, users, 10) is None  # each user has one of them


def test_intervals_cover_what_they_promise() -> None:
    """Of 100 logs about 95 intervals hold the true AUC; 88 is three standard errors below."""
    covered = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, 600).astype(np.float64)
        scores = draw.standard_normal(600) + labels  # true AUC: Phi(1 / sqrt 2) = .7602
        found = auc_intervals(labels, {"a": scores}, np.repeat(np.arange(200), 3), 200, seed)["a"]
        assert found is not None
        covered += found["low"] <= 0.7602 <= found["high"]
    assert covered >= 88


def test_calibration_by_hand() -> None:
    labels = np.array([1.0, 0, 1, 0])
    found = calibration(labels, np.array([0.6, 0.1, 0.8, 0.3]), bins=2)
    # predicted .45 on average against .5; the halves are .2 and .3 off
    assert found["observed"] == 0.5
    assert found["ratio"] == pytest.approx(0.9)
    assert found["error"] == pytest.approx(0.25)
    assert calibration(np.zeros(3), np.array([0.1, 0.2, 0.3]))["ratio"] is None


def test_true_probabilities_are_calibrated() -> None:
    draw = np.random.default_rng(0)
    probabilities = draw.random(50_000)
    labels = (draw.random(50_000) < probabilities).astype(np.float64)
    found = calibration(labels, probabilities)
    assert found["ratio"] == pytest.approx(1, abs=0.02)
    assert found["error"] is not None
    assert found["error"] < 0.01  # about .006 by chance: ten groups of 5,000
    assert (calibration(labels, probabilities**2)["error"] or 0) > 0.1
