"""Grids of residual FSQ: their factors, how they tile the cube, and how evenly they are filled."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_cases import SMALL, clustered, lost, used

from tokenizer.quantizers.residual_fsq import (
    ResidualFSQ,
    distance_from_even,
    grid_factors,
    residual_grids,
    to_cell_centres,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(2, 16))
def test_grid_factors_multiply_to_the_size(size: int, values: int) -> None:
    factors = grid_factors(size, values)
    assert math.prod(factors) == size
    assert factors == sorted(factors, reverse=True)
    assert all(factor >= 2 for factor in factors)
    for factor in factors:  # beyond the limit only what cannot be split
        assert factor <= values or all(factor % divisor for divisor in range(2, math.isqrt(factor) + 1))


def test_grid_factors_of_known_sizes() -> None:
    assert grid_factors(256, 4) == [4, 4, 4, 4]
    assert grid_factors(256, 2) == [2] * 8
    assert grid_factors(15, 4) == [5, 3]
    assert grid_factors(1000, 4) == [5, 5, 5, 4, 2]
    assert grid_factors(257, 4) == [257]
    assert grid_factors(1, 4) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(2, 6), st.integers(1, 6))
def test_grids_tile_the_cube(level_sizes: list[int], values: int, axes: int) -> None:
    """Codes found level by level as nearest rows add up to the centre of the cell; any size, factor counts that differ."""
    factors = [grid_factors(size, values) for size in level_sizes]
    codebooks, cells = residual_grids(factors, axes)
    width = max(axes, *(len(level) for level in factors))
    assert [codebook.shape for codebook in codebooks] == [(size, width) for size in level_sizes]
    assert math.prod(cells.astype(int).tolist()) == math.prod(level_sizes)
    for codebook in codebooks:
        assert len(np.unique(codebook, axis=0)) == len(codebook)
        np.testing.assert_allclose(codebook.mean(0), 0, atol=1e-6)
    u = np.random.default_rng(0).uniform(-1, 1, size=(50, width)).astype(np.float32)
    inside = np.abs((u + 1) / 2 * cells % 1 - 0.5) < 0.499  # not on the border of a cell, where rounding decides
    residual = u.copy()
    for codebook in codebooks:
        residual -= codebook[np.square(residual[:, None] - codebook[None]).sum(-1).argmin(1)]
    assert (np.abs(residual) <= 1 / cells + 1e-5).all()
    centres = to_cell_centres(torch.from_numpy(u), torch.from_numpy(cells)).numpy()
    np.testing.assert_allclose((u - residual)[inside], centres[inside], atol=1e-5)


def test_rounding_to_cells_hands_the_gradient_through() -> None:
    u = torch.tensor([[-0.9, 0.1], [0.4, 1.0]], requires_grad=True)
    centres = to_cell_centres(u, torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(centres, torch.tensor([[-0.5, 0.25], [0.5, 0.75]]))
    (gradient,) = torch.autograd.grad((centres * torch.tensor([1.0, 3.0])).sum(), u)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 3.0], [1.0, 3.0]]))


def test_distance_from_even_is_near_zero_for_even_rows_only() -> None:
    generator = torch.Generator().manual_seed(0)
    even = torch.rand(500, 3, generator=generator) * 2 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        distances = [float(distance_from_even(rows)) for rows in (even, even[:, :1].expand(-1, 3), even * 0.3)]
    assert abs(distances[0]) < 0.005
    assert distances[1] > 0.02
    assert distances[2] > 0.02


def test_fsq_fills_its_grids_better_with_the_evenness_term() -> None:
    x = clustered(2000)

    def used_first_codes(evenness: float) -> int:
        quantizer = ResidualFSQ([64, 64], evenness=evenness, **{**SMALL, "steps": 300, "learning_rate": 3e-3}).fit(x)
        assert lost(quantizer, x) < 0.6
        return used(quantizer, x)[0]

    assert used_first_codes(1.0) > 1.2 * used_first_codes(0.0)


def test_fsq_levels_with_factor_counts_that_differ() -> None:
    x = clustered(500)
    quantizer = ResidualFSQ([16, 7, 1, 30], **SMALL).fit(x)
    codes = quantizer.encode(x)
    assert (codes < [16, 7, 1, 30]).all()
    assert (codes >= 0).all()
    error = quantizer.latent(x) - sum(book[codes[:, level]] for level, book in enumerate(quantizer.codebooks))
    _, cells = residual_grids([grid_factors(size, 2) for size in (16, 7, 1, 30)])
    assert (np.abs(error) <= 1 / cells + 1e-5).all()
