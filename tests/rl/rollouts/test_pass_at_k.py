"""Pass@K against all subsets, one by one."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerec.evaluate.bootstrap import interval
from rl.rollouts.pass_at_k import best_of_first, best_of_random, doubling, pass_at_k

tables = st.integers(1, 8).flatmap(
    lambda size: st.lists(
        # Ties are common: hits, and rewards by rule.
        st.lists(st.integers(-3, 3).map(float), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@given(tables)
def test_every_k_equals_a_loop_over_prefixes_and_over_subsets(rows: list[list[float]]) -> None:
    rewards, ks = np.array(rows), list(range(1, len(rows[0]) + 1))
    by_rank, by_chance = best_of_first(rewards, ks), best_of_random(rewards, ks)
    for case, row in enumerate(rows):
        for place, k in enumerate(ks):
            assert by_rank[case, place] == max(row[:k])
            expected = np.mean([max(subset) for subset in combinations(row, k)])
            assert by_chance[case, place] == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 512), st.integers(0, 512), st.integers(1, 512))
def test_hits_by_chance_equal_the_known_formula(size: int, hits: int, k: int) -> None:
    hits, k = min(hits, size), min(k, size)
    rewards = np.zeros((1, size))
    rewards[0, :hits] = 1
    expected = 1 - comb(size - hits, k) / comb(size, k)
    # 512 products of rounded numbers.
    assert best_of_random(rewards, [k])[0, 0] == pytest.approx(expected, abs=1e-11)


def test_curves_carry_intervals_over_users_and_never_fall() -> None:
    draw = np.random.default_rng(0)
    users, size = np.repeat(np.arange(30), 2), 64
    rewards = {"long_view": draw.random((60, size)), "like": (draw.random((60, size)) < 0.02).astype(float)}
    for order, best in (("rank", best_of_first), ("chance", best_of_random)):
        curves = pass_at_k(rewards, users, order=order, samples=200, seed=7)  # type: ignore[arg-type]
        assert list(curves) == ["long_view", "like"]
        for name, curve in curves.items():
            assert list(curve) == [1, 2, 4, 8, 16, 32, 64]
            assert curve[8] == pytest.approx(interval(best(rewards[name], [8])[:, 0], users, 200, 7), abs=1e-12)
            for bound in ("value", "low", "high"):
                assert (np.diff([point[bound] for point in curve.values()]) >= -1e-12).all()
    assert curves["like"][64]["value"] == rewards["like"].max(axis=1).mean()
    # By chance, one of all is as good as the average one.
    assert curves["like"][1]["value"] == pytest.approx(rewards["like"].mean())


def test_values_of_k() -> None:
    assert doubling(512) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert doubling(1) == [1]
    assert doubling(100) == [1, 2, 4, 8, 16, 32, 64]
    assert list(pass_at_k({"hit": np.eye(3)}, np.arange(3), ks=[1, 3], samples=10)["hit"]) == [1, 3]


def test_a_k_without_generations_and_rewards_that_are_no_numbers_are_refused() -> None:
    for ks in ([], [0], [4]):
        with pytest.raises(ValueError, match="K must be 1 to 3"):
            pass_at_k({"hit": np.eye(3)}, np.arange(3), ks=ks)
    with pytest.raises(ValueError, match="finite"):
        best_of_first(np.array([[0.0, np.nan]]), [1])
