"""Truncation, and draws with and without replacement, against plain Python."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollout_cases import assert_drawn_from, plain_truncation

from rl.rollouts.draws import Truncation, WithoutReplacement, WithReplacement

# On a grid: of values that differ in their last digit only, either may be taken for the larger one.
rows = st.lists(st.integers(-60, 20).map(lambda tenths: tenths / 10), min_size=1, max_size=9, unique=True)


@given(rows, st.floats(0.2, 3), st.none() | st.integers(1, 12), st.none() | st.floats(0.05, 1))
def test_truncation_equals_a_plain_account(
    row: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    made = Truncation(temperature, top_k, top_p)(torch.tensor([[*row, -torch.inf]], dtype=torch.float64))[0]
    expected = plain_truncation(dict(enumerate(row)), temperature, top_k, top_p)
    assert made[-1] == -torch.inf
    assert set(torch.isfinite(made).nonzero()[:, 0].tolist()) == set(expected)
    for option, probability in expected.items():
        assert float(made[option].exp()) == pytest.approx(probability, abs=1e-9)


def test_the_option_that_crosses_top_p_stays_equal_ones_are_cut_to_k_and_nothing_stays_nothing() -> None:
    quarters = torch.full((1, 4), 0.25, dtype=torch.float64).log()
    assert int(Truncation(top_p=0.5)(quarters).isfinite().sum()) == 2
    assert int(Truncation(top_p=0.51)(quarters).isfinite().sum()) == 3
    assert int(Truncation(top_k=3)(quarters).isfinite().sum()) == 3
    nothing = torch.full((2, 3), -torch.inf)
    assert (Truncation(0.5, 2, 0.9)(nothing) == -torch.inf).all()


def test_with_replacement_every_prefix_grows_by_itself() -> None:
    log_probabilities = torch.tensor([[[0.0, -torch.inf], [-torch.inf, 0.0], [0.0, -torch.inf]]])
    parents, places = WithReplacement(3, torch.Generator().manual_seed(0))(log_probabilities)
    assert parents.tolist() == [[0, 1, 2]]
    assert places.tolist() == [[0, 1, 0]]


def test_without_replacement_pairs_have_the_probabilities_of_sequential_draws() -> None:
    """Over two levels: options 0..3 behind two prefixes of probability .7 and .3."""
    leaves = {0: 0.7 * 0.9, 1: 0.7 * 0.1, 2: 0.3 * 0.4, 3: 0.3 * 0.6}
    groups, draw = 6000, WithoutReplacement(2, torch.Generator().manual_seed(5))
    prefixes, first = draw(torch.tensor([0.7, 0.3]).log().expand(groups, 1, 2))
    assert prefixes.eq(0).all()
    second = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).log()[first]
    parents, places = draw(second)
    found = first.gather(1, parents) * 2 + places
    assert (found[:, 0] != found[:, 1]).all()
    chances = {10 * a + b: leaves[a] * leaves[b] / (1 - leaves[a]) for a, b in permutations(leaves, 2)}
    assert math.isclose(sum(chances.values()), 1)
    assert_drawn_from((10 * found[:, 0] + found[:, 1]).tolist(), chances)
