"""What quantizers with networks owe beyond the suite that all quantizers share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.errors import TokenizerError
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.codebooks import revive_dead_codes
from tokenizer.quantizers.letter import (
    behaviour_loss,
    cluster_codes,
    diversity_loss,
    random_partners,
)
from tokenizer.quantizers.residual_fsq import (
    ResidualFSQ,
    distance_from_even,
    grid_factors,
    residual_grids,
    to_cell_centres,
)
from tokenizer.quantizers.rounding import AveragedRounding, GumbelRounding
from tokenizer.quantizers.rq_kmeans import RQKMeans
from tokenizer.quantizers.rq_kmeans_plus import RQKMeansPlus
from tokenizer.quantizers.rq_vae import RQVAE

SMALL: dict[str, Any] = {"hidden": [32], "steps": 80, "batch_size": 128}


def clustered(items: int = 400, width: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse, fine = 3 * rng.normal(size=(6, width)), rng.normal(size=(5, width))
    noise = 0.1 * rng.normal(size=(items, width))
    return (coarse[rng.integers(6, size=items)] + fine[rng.integers(5, size=items)] + noise).astype(np.float32)


def low_rank(items: int, width: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(items, 2)) @ rng.normal(size=(2, width))).astype(np.float32)


def lost(quantizer: Quantizer, x: np.ndarray) -> float:
    """Share of the variance that the codes lose."""
    return float(np.square(x - quantizer.decode(quantizer.encode(x))).sum() / np.square(x - x.mean(0)).sum())


def used(quantizer: Quantizer, x: np.ndarray) -> list[int]:
    return [len(np.unique(column)) for column in quantizer.encode(x).T]


# --- gradients past the rounding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["rotation", "ste", "gumbel"])
def test_every_gradient_trains_and_beats_random_codes(gradient: Any) -> None:
    x = clustered()
    quantizer = RQVAE([6, 8, 4], gradient=gradient, latent_dimensions=8, **SMALL).fit(x)
    random_codes = np.random.default_rng(0).integers([6, 8, 4], size=(len(x), 3))
    error = np.square(x - quantizer.decode(quantizer.encode(x))).sum()
    assert error < 0.3 * np.square(x - quantizer.decode(random_codes)).sum()
    longer = RQVAE([6, 8, 4], gradient=gradient, latent_dimensions=8, **{**SMALL, "steps": 200}).fit(x)
    assert lost(longer, x) < lost(quantizer, x) < 0.3


@pytest.mark.parametrize("gradient", ["rotation", "ste", "gumbel"])
@pytest.mark.parametrize("kind", ["clustered", "low rank", "heavy tails"])
def test_no_dead_level(gradient: Any, kind: str) -> None:
    """1,000 items, 256 codes a level: four items a code, so codes die easily."""
    x = {
        "clustered": clustered(1000),
        "low rank": low_rank(1000),
        "heavy tails": np.random.default_rng(1).standard_t(2, size=(1000, 24)).astype(np.float32),
    }[kind]
    quantizer = RQVAE([256, 256, 256], gradient=gradient, latent_dimensions=16, **{**SMALL, "steps": 60}).fit(x)
    codes = quantizer.encode(x)
    assert used(quantizer, x) == [256, 256, 256]
    for column in codes.T:
        share = np.bincount(column, minlength=256) / len(x)
        assert -(share[share > 0] * np.log(share[share > 0])).sum() > 0.7 * math.log(256)
    assert len(np.unique(codes, axis=0)) > 0.8 * len(x)


def test_dead_codes_are_revived_and_codes_in_use_stay_where_they_are() -> None:
    x = torch.from_numpy(clustered(300))
    codebook = torch.cat([x[:10], torch.full((20, 12), 100.0)])
    (revived,) = revive_dead_codes(x.clone(), [codebook], seed=0)
    codes = torch.cdist(x, revived).argmin(1)
    assert len(codes.unique()) == 30
    torch.testing.assert_close(revived[:10], codebook[:10])
    same = torch.ones(5, 3)
    (unchanged,) = revive_dead_codes(same.clone(), [torch.stack([same[0], same[0] + 9])], seed=0)
    assert unchanged.tolist() == [[1, 1, 1], [10, 10, 10]]  # nobody to serve: left alone


@pytest.mark.parametrize("rotation", [True, False])
def test_averaged_codebooks_tend_to_the_means_of_their_rows(rotation: bool) -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = centres.repeat(20, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rounding = AveragedRounding([3], 2, batch=60, rotation=rotation, commitment=0.25, decay=0.5)
        rounding.start([centres + 1.0], torch.arange(3).repeat(20).unsqueeze(1))
        for _ in range(30):
            latents = rows.clone().requires_grad_()
            quantised, loss = rounding(latents, 0.0)
    torch.testing.assert_close(rounding.codebooks()[0], centres, atol=1e-3, rtol=0)
    torch.testing.assert_close(quantised.detach(), rows, atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad((quantised * torch.tensor([1.0, 2.0])).sum() + 0 * loss, latents)
    torch.testing.assert_close(gradient[1], torch.tensor([1.0, 2.0]), atol=1e-3, rtol=0)  # nothing to turn any more


def test_gumbel_choices_settle_on_the_nearest_row() -> None:
    latents = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rounding = GumbelRounding([16], 4, batch=200, commitment=0.25, decay=0.99)
        rounding.start([latents[:16].clone()], torch.zeros(200, 1, dtype=torch.int64))
        distance = []
        for progress in (0.0, 1.0):
            codebook = rounding.codebooks()[0]
            mixed = rounding(latents, progress)[0].detach()
            distance.append(float((mixed - codebook[torch.cdist(latents, codebook).argmin(1)]).square().mean()))
    assert distance[1] < 0.05 * distance[0]


# --- LETTER ----------------------------------------------------------------------------------------------------------


def test_behaviour_loss_equals_a_slow_reference_and_leaves_out_rows_without_behaviour() -> None:
    rng = np.random.default_rng(0)
    quantised, behaviour = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    behaviour[[2, 5]] = 0
    known = [0, 1, 3, 4, 6]
    terms = []
    for row in known:
        scores = [math.exp(quantised[row] @ behaviour[other]) for other in known]
        terms.append(-math.log(scores[known.index(row)] / sum(scores)))
    loss = behaviour_loss(torch.from_numpy(quantised), torch.from_numpy(behaviour))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-9)
    behaviour[1:] = 0
    assert float(behaviour_loss(torch.from_numpy(quantised), torch.from_numpy(behaviour))) == 0


def test_diversity_loss_equals_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    codebook, codes, partners = rng.normal(size=(6, 3)), [0, 4, 4], [2, 1, 5]
    terms = []
    for code, partner in zip(codes, partners, strict=True):
        scores = {other: math.exp(codebook[code] @ codebook[other]) for other in range(6) if other != code}
        terms.append(-math.log(scores[partner] / sum(scores.values())))
    loss = diversity_loss(torch.from_numpy(codebook), torch.tensor(codes), torch.tensor(partners))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 70), st.integers(1, 12), st.integers(0, 5))
def test_clusters_of_codes_keep_their_size_bounds(codes: int, clusters: int, seed: int) -> None:
    codebook = torch.randn(codes, 3, generator=torch.Generator().manual_seed(seed))
    codebook[: codes // 2] = codebook[0]  # many alike: nearest-centroid clusters would be lopsided
    cluster = cluster_codes(codebook, clusters)
    effective = max(1, min(clusters, codes // 2))
    sizes = torch.bincount(cluster, minlength=effective)
    assert len(sizes) == effective
    assert int(sizes.min()) >= max(2, codes // (2 * effective))
    assert int(sizes.max()) <= math.ceil(2 * codes / effective)


def test_partners_are_all_the_others_of_a_cluster_equally_often() -> None:
    cluster = torch.tensor([1, 0, 1, 0, 1, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        partners = random_partners(torch.full((6000,), 2), cluster)
        pair = random_partners(torch.tensor([1, 3]), cluster)
    assert pair.tolist() == [3, 1]
    counts = torch.bincount(partners, minlength=6)
    assert counts[[1, 2, 3]].tolist() == [0, 0, 0]
    assert (counts[[0, 4, 5]] - 2000).abs().max() < 200  # five standard deviations of a count are 183


def behaviour_in_faint_columns(items: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Content that is mostly unrelated to behaviour, with behaviour in columns too faint for the reconstruction to keep."""
    rng = np.random.default_rng(0)
    behaviour = rng.normal(size=(items, 4)).astype(np.float32)
    loud = clustered(items, 12)
    return np.concatenate([loud, 0.5 * behaviour], axis=1), behaviour


def explained_by_codes(codes: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that the means of the first level's codes explain."""
    means = np.stack([target[codes[:, 0] == code].mean(0) for code in codes[:, 0]])
    return 1 - float(np.square(target - means).sum() / np.square(target - target.mean(0)).sum())


@pytest.mark.parametrize("gradient", ["rotation", "gumbel"])
def test_codes_follow_behaviour_the_more_the_larger_its_weight(gradient: Any) -> None:
    x, behaviour = behaviour_in_faint_columns()
    shares = []
    for weight in (0.0, 0.1, 1.0):
        quantizer = RQVAE(
            [16, 16], gradient=gradient, latent_dimensions=8, behaviour_weight=weight, **{**SMALL, "steps": 150}
        ).fit(x, behaviour)
        shares.append(explained_by_codes(quantizer.encode(x), behaviour))
    assert shares[0] + 0.02 < shares[1]
    assert shares[1] + 0.02 < shares[2]


def test_behaviour_is_asked_for_and_checked() -> None:
    x = clustered(50)
    quantizer = RQVAE([4], behaviour_weight=0.1, latent_dimensions=4, **SMALL)
    with pytest.raises(TokenizerError, match="behaviour_weight"):
        quantizer.fit(x)
    with pytest.raises(TokenizerError, match="behaviour vectors: 49 rows for 50"):
        quantizer.fit(x, np.zeros((49, 3)))
    with pytest.raises(TokenizerError, match="behaviour vectors: row 3"):
        quantizer.fit(x, np.where(np.arange(50)[:, None] == 3, np.nan, np.ones((50, 3))))
    assert quantizer.fit(x, np.zeros((50, 3))).encode(x).shape == (50, 1)  # nothing known about anybody


@pytest.mark.parametrize("gradient", ["rotation", "gumbel"])
def test_diversity_term_lowers_its_loss_and_is_deterministic(gradient: Any) -> None:
    x = clustered(400)

    def fitted(weight: float) -> RQVAE:
        return RQVAE(
            [32, 32],
            gradient=gradient,
            latent_dimensions=8,
            decay=0.9,
            diversity_weight=weight,
            diversity_clusters=4,
            **SMALL,
        ).fit(x)

    def loss(quantizer: RQVAE) -> float:
        codebook = torch.from_numpy(quantizer.codebooks[0])
        codes = torch.from_numpy(quantizer.encode(x)[:, 0]).long().repeat(20)  # 20 partners for each
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return float(diversity_loss(codebook, codes, random_partners(codes, cluster_codes(codebook, 4))))

    with_term = fitted(0.3)
    assert loss(with_term) < 0.95 * loss(fitted(0.0))
    assert all(np.isfinite(codebook).all() for codebook in with_term.codebooks)
    np.testing.assert_array_equal(with_term.codebooks[1], fitted(0.3).codebooks[1])


@pytest.mark.parametrize("gradient", ["rotation", "gumbel"])
def test_a_diversity_weight_far_too_large_does_no_lasting_harm(gradient: Any) -> None:
    x = clustered(400)
    quantizer = RQVAE([32, 32], gradient=gradient, latent_dimensions=8, diversity_weight=1000.0, **SMALL).fit(x)
    assert all(np.isfinite(array).all() for array in quantizer.state_dict().values())
    assert used(quantizer, x) == [32, 32]
    assert lost(quantizer, x) < 0.6


# --- RQ-KMeans+ ------------------------------------------------------------------------------------------------------


def test_rq_kmeans_plus_starts_as_rq_kmeans() -> None:
    x = clustered(300)
    plus, plain = RQKMeansPlus([8, 16], steps=0, seed=3).fit(x), RQKMeans([8, 16], seed=3).fit(x)
    np.testing.assert_array_equal(plus.encode(x), plain.encode(x))
    np.testing.assert_allclose(plus.decode(plus.encode(x)), plain.decode(plain.encode(x)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(plus.latent(x), plain.latent(x), rtol=1e-6)
    np.testing.assert_array_equal(plus.codebooks[1], plain.codebooks[1])


def test_rq_kmeans_plus_improves_where_it_can_and_is_never_worse() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, size=(2000, 1))
    x = np.concatenate([np.cos(k * angle) for k in range(1, 5)], axis=1).astype(np.float32)  # a curve: not linear
    start = lost(RQKMeans([8, 8], seed=1).fit(x), x)
    assert lost(RQKMeansPlus([8, 8], seed=1, **{**SMALL, "steps": 400}).fit(x), x) < 0.95 * start
    for case in (clustered(200), rng.normal(size=(60, 5)).astype(np.float32)):
        for rate in (1e-3, 1.0):  # the second one wrecks the networks
            plus = RQKMeansPlus([16, 16], seed=2, learning_rate=rate, **{**SMALL, "steps": 30}).fit(case)
            assert lost(plus, case) <= lost(RQKMeans([16, 16], seed=2).fit(case), case) * (1 + 1e-4) + 1e-9


# --- residual FSQ ----------------------------------------------------------------------------------------------------


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


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [RQVAE, RQKMeansPlus, ResidualFSQ])
def test_networks_are_restored_exactly(made: Any) -> None:
    x = clustered(200)
    quantizer = made([6, 4], **SMALL).fit(x)
    state = {name: array.copy() for name, array in quantizer.state_dict().items()}
    restored = made.load(quantizer.config(), state)
    assert restored.config() == quantizer.config()
    for name, array in restored.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    np.testing.assert_array_equal(restored.latent(x), quantizer.latent(x))
    np.testing.assert_array_equal(restored.decode(restored.encode(x)), quantizer.decode(quantizer.encode(x)))
    network = next(name for name in state if name.startswith("decoder."))
    del state[network]
    with pytest.raises(TokenizerError, match=network):
        made.load(quantizer.config(), state)


@pytest.mark.parametrize("made", [RQVAE, RQKMeansPlus, ResidualFSQ])
def test_chunks_do_not_show(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = clustered(300)
    quantizer = made([6, 4], **SMALL).fit(x)
    codes, decoded = quantizer.encode(x), quantizer.decode(quantizer.encode(x))
    assert len(list(quantizer._chunks(300))) == 1
    monkeypatch.setattr("tokenizer.quantizers.autoencoder.MOST_CHUNK_ROWS", 64)
    np.testing.assert_array_equal(quantizer.encode(x), codes)
    np.testing.assert_allclose(quantizer.decode(codes), decoded, rtol=1e-4, atol=1e-5)


def test_chunks_follow_the_memory_setting() -> None:
    """Half of 16 MiB are 2M float32 numbers at once, of which a row takes about 4,000 here."""
    quantizer = RQVAE([4], memory_mib=16, hidden=[2048], latent_dimensions=8)
    chunks = list(quantizer._chunks(5000))
    assert 400 < chunks[0].stop < 512
    assert [rows.start for rows in chunks[1:]] == [rows.stop for rows in chunks[:-1]]
    assert chunks[-1].stop == 5000
