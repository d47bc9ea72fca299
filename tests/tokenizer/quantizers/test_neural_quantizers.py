"""What quantizers with networks owe beyond the suite that all quantizers share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from quantizer_cases import SMALL, clustered, lost, used

from tokenizer.quantizers.codebooks import revive_dead_codes
from tokenizer.quantizers.residual_fsq import ResidualFSQ
from tokenizer.quantizers.rounding import AveragedRounding, GumbelRounding
from tokenizer.quantizers.rq_kmeans import RQKMeans
from tokenizer.quantizers.rq_kmeans_plus import RQKMeansPlus
from tokenizer.quantizers.rq_vae import RQVAE


@pytest.mark.parametrize("gradient", ["rotation", "ste", "gumbel"])
def test_every_gradient_trains(gradient: Any) -> None:
    x = clustered()
    few, many = (
        lost(RQVAE([6, 8, 4], gradient=gradient, latent_dimensions=8, **{**SMALL, "steps": steps}).fit(x), x)
        for steps in (80, 200)
    )
    assert many < few < 0.3


@pytest.mark.parametrize("gradient", ["rotation", "ste", "gumbel"])
@pytest.mark.parametrize("kind", ["clustered", "low rank", "heavy tails"])
def test_no_dead_level(gradient: Any, kind: str) -> None:
    """1,000 items, 256 codes a level: four items a code, so codes die easily."""
    rng = np.random.default_rng(1)
    x = {
        "clustered": clustered(1000),
        "low rank": (rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 24))).astype(np.float32),
        "heavy tails": rng.standard_t(2, size=(1000, 24)).astype(np.float32),
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
