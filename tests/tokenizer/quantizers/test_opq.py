"""Product quantization: what a learnt rotation gains, and the mathematics behind it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantizer_cases import lost

from tokenizer.quantizers.opq import OPQ
from tokenizer.quantizers.rotation import balanced_rotation, block_widths, procrustes


def uneven_normal(items: int = 1500, width: int = 16) -> np.ndarray:
    """Normal rows whose first columns carry nearly all the variance: plain PQ gives them all to one level."""
    return (np.random.default_rng(0).normal(size=(items, width)) * 0.7 ** np.arange(width)).astype(np.float32)


def test_the_rotation_helps_where_columns_are_uneven() -> None:
    x = uneven_normal()
    plain, rotated = lost(OPQ([32] * 4, rotation=False).fit(x), x), lost(OPQ([32] * 4).fit(x), x)
    assert rotated < 0.3 * plain  # measured .022 and .170


def test_the_rotation_keeps_columns_that_suit_the_blocks() -> None:
    """Two blocks with 16 clusters each: exact as they are; mixed by principal directions every block has 256 of them."""
    rng = np.random.default_rng(0)
    x = np.concatenate([5 * rng.normal(size=(16, 6))[rng.integers(16, size=800)] for _ in range(2)], axis=1)
    assert lost(OPQ([16, 16]).fit(x), x) < 0.05


def test_more_rounds_of_rotation_lose_less() -> None:
    """On clusters that suit the blocks, hidden by a rotation; over several draws, since each has local optima."""
    shares = {1: 0.0, 25: 0.0}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        blocks = [5 * rng.normal(size=(8, 4))[rng.integers(8, size=600)] for _ in range(2)]
        x = np.concatenate(blocks, axis=1) @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
        for rounds in shares:
            shares[rounds] += lost(OPQ([8, 8], iterations=rounds).fit(x), x) / 6
    assert shares[25] < 0.7 * shares[1], shares


def test_the_latent_space_keeps_distances() -> None:
    x = uneven_normal(200)
    quantizer = OPQ([8, 8, 8]).fit(x)
    state, latent = quantizer.state_dict(), quantizer.latent(x)
    distances = (np.linalg.norm(rows[1:] - rows[0], axis=1) for rows in (state["scale"] * latent, x))
    np.testing.assert_allclose(*distances, rtol=1e-4)
    rotation = state["rotation"].astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(16), atol=1e-5)


@given(width=st.integers(1, 30), levels=st.integers(1, 12))
def test_blocks_share_the_columns_evenly(width: int, levels: int) -> None:
    widths = block_widths(width, [4] * levels)
    assert len(widths) == levels and sum(widths) == width and max(widths) - min(widths) <= 1


def test_eigenvalues_are_dealt_out_evenly() -> None:
    values = 2.0 ** np.arange(8)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    covariance = basis @ np.diag(values) @ basis.T
    rotation = balanced_rotation(covariance, [16, 16])
    inside = np.diag(rotation.T @ covariance @ rotation)
    np.testing.assert_allclose(np.sort(inside), values)
    assert np.log2(inside[:4]).sum() == pytest.approx(np.log2(inside[4:]).sum())  # 28 bits, 14 for either
    # a level with more codes can take more: the product per squared number of codes is what is even
    larger = balanced_rotation(covariance, [64, 16])
    inside = np.log2(np.diag(larger.T @ covariance @ larger))
    assert inside[:4].sum() - inside[4:].sum() == pytest.approx(4)


def test_procrustes_finds_the_rotation_that_was_applied() -> None:
    rng = np.random.default_rng(0)
    y, turn = rng.normal(size=(50, 6)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.testing.assert_allclose(procrustes(y.T @ (y @ turn)), turn, atol=1e-12)


def test_wide_rows_are_worked_on_by_parts() -> None:
    """With 16 MiB a chunk of 3,000 columns is 174 rows; the codes must not show where the cuts were."""
    x = np.random.default_rng(0).normal(size=(400, 3000)).astype(np.float32)
    small, large = (OPQ([4, 4], rotation=False, memory_mib=mib).fit(x) for mib in (16, 512))
    np.testing.assert_array_equal(small.encode(x), large.encode(x))
