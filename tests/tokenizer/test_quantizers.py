"""What every quantizer must do: the same tests for all of them."""

from typing import Any

import numpy as np
import pytest

from tokenizer.errors import TokenizerError
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.rq_kmeans import RQKMeans
from tokenizer.quantizers.rq_vae import RQVAE

METHODS = ["rq_kmeans", "rq_vae"]


def make(method: str, level_sizes: list[int], **settings: Any) -> Quantizer:
    if method == "rq_kmeans":
        return RQKMeans(level_sizes, **settings)
    return RQVAE(level_sizes, **{"hidden": [32], "latent_dimensions": 8, "steps": 120, "batch_size": 128, **settings})


def clustered(items: int = 400, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse, fine = 3 * rng.normal(size=(6, width)), rng.normal(size=(5, width))
    noise = 0.1 * rng.normal(size=(items, width))
    return (coarse[rng.integers(6, size=items)] + fine[rng.integers(5, size=items)] + noise).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_in_range_and_beat_random_codes(method: str) -> None:
    x = clustered()
    quantizer = make(method, [6, 8, 4]).fit(x)
    codes = quantizer.encode(x)
    assert codes.shape == (400, 3)
    assert codes.dtype == np.int32
    assert (codes >= 0).all()
    assert (codes < [6, 8, 4]).all()
    decoded = quantizer.decode(codes)
    assert decoded.shape == x.shape
    assert decoded.dtype == np.float32
    error = np.square(x - decoded).sum()
    assert error < 0.5 * np.square(x - x.mean(0)).sum()
    random_codes = np.random.default_rng(0).integers([6, 8, 4], size=codes.shape)
    assert error < 0.5 * np.square(x - quantizer.decode(random_codes)).sum()


@pytest.mark.parametrize("method", METHODS)
def test_deterministic_by_seed_and_blind_to_the_global_random_state(method: str) -> None:
    import torch

    x = clustered(200)
    first = make(method, [8, 8], seed=3).fit(x)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = make(method, [8, 8], seed=3).fit(x)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.encode(x), second.encode(x))
    np.testing.assert_array_equal(first.codebooks[1], second.codebooks[1])
    assert not np.array_equal(first.codebooks[0], make(method, [8, 8], seed=4).fit(x).codebooks[0])


@pytest.mark.parametrize("method", METHODS)
def test_round_trip_through_config_and_state(method: str) -> None:
    x = clustered(150)
    quantizer = make(method, [5, 7]).fit(x)
    state = {name: array.copy() for name, array in quantizer.state_dict().items()}
    restored = type(quantizer).load(quantizer.config(), state)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(quantizer.encode(x), restored.encode(x))
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(x)), restored.decode(restored.encode(x)))
    state["codebook_2"] = state["codebook_2"][:3]
    with pytest.raises(TokenizerError, match=r"codebook_2.*\(7, "):
        type(quantizer).load(quantizer.config(), state)  # type: ignore[attr-defined]
    del state["mean"]
    with pytest.raises(TokenizerError, match="'mean'"):
        type(quantizer).load(quantizer.config(), state)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_codebook_rows_add_up_in_the_latent_space(method: str) -> None:
    """`unique` relies on it: each code is the nearest row to what the levels before it left over."""
    x = clustered(120)
    quantizer = make(method, [6, 6]).fit(x)
    residual, codes = quantizer.latent(x).astype(np.float64), quantizer.encode(x)
    for level, codebook in enumerate(quantizer.codebooks):
        distance = np.square(residual[:, None] - codebook[None]).sum(-1)
        chosen = np.take_along_axis(distance, codes[:, level : level + 1], 1)[:, 0]
        np.testing.assert_allclose(chosen, distance.min(1), rtol=1e-3, atol=1e-4)
        residual -= codebook[codes[:, level]]


@pytest.mark.parametrize("method", METHODS)
def test_duplicate_rows_share_their_codes_and_constant_columns_do_no_harm(method: str) -> None:
    x = np.repeat(clustered(60), 3, axis=0)
    x[:, 4] = 7.0
    quantizer = make(method, [8, 8]).fit(x)
    codes = quantizer.encode(x).reshape(60, 3, 2)
    assert (codes == codes[:, :1]).all()
    decoded = quantizer.decode(quantizer.encode(x))
    assert np.isfinite(decoded).all()
    if method == "rq_kmeans":  # exact there; the decoder of RQ-VAE only comes close
        np.testing.assert_allclose(decoded[:, 4], 7.0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("items", [1, 5])
def test_fewer_items_than_codes(method: str, items: int) -> None:
    x = clustered(items)
    quantizer = make(method, [16, 16]).fit(x)
    codes = quantizer.encode(x)
    assert all(len(np.unique(column)) <= items for column in codes.T)
    assert len(np.unique(codes, axis=0)) == items  # different items, room enough: no reason to collide
    if method == "rq_kmeans":
        np.testing.assert_allclose(quantizer.decode(codes), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_identical_items(method: str) -> None:
    quantizer = make(method, [4, 4]).fit(np.full((10, 3), 2.5))
    codes = quantizer.encode(np.full((10, 3), 2.5))
    assert len(np.unique(codes, axis=0)) == 1
    assert np.isfinite(quantizer.decode(codes)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused_with_their_row(method: str, value: float) -> None:
    x = clustered(30).astype(np.float64)
    x[17, 2] = value
    with pytest.raises(TokenizerError, match="row 17"):
        make(method, [4]).fit(x)
    quantizer = make(method, [4]).fit(clustered(30))
    with pytest.raises(TokenizerError, match="row 17"):
        quantizer.encode(x)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_shapes_wrong_codes_and_unfitted_use_are_refused(method: str) -> None:
    quantizer = make(method, [4, 4])
    with pytest.raises(TokenizerError, match="not been fitted"):
        quantizer.encode(clustered(5))
    quantizer.fit(clustered(30))
    with pytest.raises(TokenizerError, match="3 columns, but the quantizer was fitted on 12"):
        quantizer.encode(np.zeros((2, 3)))
    with pytest.raises(TokenizerError, match="row 1 has code 4 on level 2"):
        quantizer.decode(np.array([[0, 0], [0, 4]]))
    with pytest.raises(TokenizerError, match="shape"):
        quantizer.fit(np.zeros((0, 3)))
    with pytest.raises(TokenizerError, match="level_sizes"):
        make(method, [])


def test_rq_kmeans_is_exact_far_from_the_origin() -> None:
    """Squared lengths of 1e4 per column would swallow the distances in float32, were the mean not taken off first."""
    x = clustered(300)
    near, far = RQKMeans([8, 8, 8]).fit(x), RQKMeans([8, 8, 8]).fit(x + 1e4)
    error_near = np.square(x - near.decode(near.encode(x))).mean()
    error_far = np.square(x + 1e4 - far.decode(far.encode(x + 1e4))).mean()
    assert error_far == pytest.approx(error_near, rel=0.1)


def test_rq_kmeans_does_not_depend_on_the_scale() -> None:
    x = clustered(300)
    np.testing.assert_array_equal(RQKMeans([8, 8]).fit(x).encode(x), RQKMeans([8, 8]).fit(x * 1024).encode(x * 1024))


def test_rq_kmeans_fitted_on_a_sample_encodes_all_rows() -> None:
    x = clustered(2000)
    sampled = RQKMeans([8, 8], fit_rows=300).fit(x)
    whole = RQKMeans([8, 8]).fit(x)
    error = [np.square(x - q.decode(q.encode(x))).sum() for q in (sampled, whole)]
    assert sampled.encode(x).shape == (2000, 2)
    assert error[0] < 2 * error[1]  # either may land in the better local optimum


def test_levels_refine_each_other() -> None:
    x = clustered()
    quantizer = RQKMeans([8, 8, 8]).fit(x)
    errors = [
        np.square(x - RQKMeans([8] * levels).fit(x).decode(quantizer.encode(x)[:, :levels])).sum()
        for levels in (1, 2, 3)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_rq_vae_uses_all_its_codes() -> None:
    """Codebooks started from one batch, or codes that died, would show here."""
    x = np.random.default_rng(0).normal(size=(2000, 12)).astype(np.float32)
    codes = make("rq_vae", [32, 32], batch_size=64, steps=200).fit(x).encode(x)
    assert all(len(np.unique(column)) >= 31 for column in codes.T)
