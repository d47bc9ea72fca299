"""LETTER's terms of RQ-VAE: the losses against slow references, and what they do to codes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_cases import SMALL, clustered, lost, used

from tokenizer.errors import TokenizerError
from tokenizer.quantizers.letter import (
    behaviour_loss,
    cluster_codes,
    diversity_loss,
    random_partners,
)
from tokenizer.quantizers.rounding import AveragedRounding, GumbelRounding
from tokenizer.quantizers.rq_vae import RQVAE


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


def diversity_after_rounding(gradient: str, weight: float, seed: int) -> float:
    """The diversity loss of a codebook after 60 steps on the same rows. The rows stay where they are: an encoder would move
    and stretch them meanwhile, and inner products with them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = torch.randn(8, 8)[torch.randint(8, (128,))] + 0.3 * torch.randn(128, 8)
        settings: dict[str, Any] = {"batch": 128, "commitment": 0.25, "decay": 0.9}
        settings |= {"diversity_weight": weight, "diversity_clusters": 4}
        averaged = gradient == "rotation"
        rounding = (
            AveragedRounding([32], 8, rotation=True, **settings) if averaged else GumbelRounding([32], 8, **settings)
        )
        codebook = rows[torch.randperm(128)[:32]].clone()
        rounding.start([codebook], torch.cdist(rows, codebook).argmin(1)[:, None])
        optimizer = None if averaged else torch.optim.Adam(rounding.parameters(), lr=0.01)
        for step in range(60):
            _, loss = rounding(rows, step / 60)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        torch.manual_seed(0)
        (learnt,) = rounding.codebooks()
        codes = torch.cdist(rows, learnt).argmin(1).repeat(20)  # 20 partners for each
        return float(diversity_loss(learnt, codes, random_partners(codes, cluster_codes(learnt, 4))))


@pytest.mark.parametrize("gradient", ["rotation", "gumbel"])
def test_diversity_term_lowers_its_loss(gradient: str) -> None:
    # Of single codebooks it is noisy, so the mean of eight counts: .6 of what it is without, with a standard error below .1.
    with_term, without = (
        np.mean([diversity_after_rounding(gradient, w, seed) for seed in range(8)]) for w in (3.0, 0.0)
    )
    assert with_term < 0.85 * without


@pytest.mark.parametrize("gradient", ["rotation", "gumbel"])
def test_a_diversity_weight_far_too_large_does_no_lasting_harm(gradient: Any) -> None:
    x = clustered(400)
    quantizer = RQVAE([32, 32], gradient=gradient, latent_dimensions=8, diversity_weight=1000.0, **SMALL).fit(x)
    assert all(np.isfinite(array).all() for array in quantizer.state_dict().values())
    assert used(quantizer, x) == [32, 32]
    assert lost(quantizer, x) < 0.6
