"""Objectives: the papers' coefficients through autograd, bounds, plain references."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl.objectives import (
    PolicyLoss,
    dpo,
    ecpo,
    gbpo,
    group_advantages,
    grpo,
    hard_negatives,
    random_negatives,
    softmax_negatives,
)

Objective = Callable[..., PolicyLoss]
# π, π_old, A, and the coefficients of GRPO, ECPO and GBPO with ε = .2 and δ = .1.
COEFFICIENTS = [
    (0.5, 0.05, -1, -10, -1.3, -1.0),
    (0.01, 0.01, -1, -1, -1, -1 / 99),
    (0.01, 0.001, -1, -10, -1.3, -1 / 99),
    (0.9, 0.3, -1, -3, -1.3, -3.0),
    (0.01, 0.1, -1, 0, 0, -1 / 99),
    (0.5, 0.05, 1, 0, 0, 1.0),
    (0.01, 0.1, 1, 0.1, 0.1, 0.1),
    (0.5, 0.5, 1, 1, 1, 1),
]
log_probability = st.floats(-300, 0)
sign = st.sampled_from([-1.0, 1.0])


def coefficient(
    objective: Objective, log_pi: float, log_old: float | None, advantage: float, **settings: object
) -> float:
    """dJ / dlog π of a single code, through autograd, in the precision of training."""
    log_pi_111 = torch.tensor([[[log_pi]]], requires_grad=True)
    old_111 = None if log_old is None else torch.tensor([[[log_old]]])
    objective(log_pi_111, torch.tensor([[advantage]]), old_111, **settings).loss.backward()
    assert log_pi_111.grad is not None
    return -float(log_pi_111.grad)


@pytest.mark.parametrize("row", COEFFICIENTS)
def test_coefficients_are_those_of_the_papers(row: tuple[float, ...]) -> None:
    pi, old, advantage, *expected = row
    log_pi, log_old = float(torch.tensor(pi).log()), float(torch.tensor(old).log())
    for objective, wanted in zip((grpo, ecpo, gbpo), expected, strict=True):
        assert coefficient(objective, log_pi, log_old, advantage) == pytest.approx(wanted, rel=1e-5)


@given(log_probability, log_probability, sign)
def test_ecpo_is_bounded_and_grpo_where_the_advantage_is_positive(log_pi: float, log_old: float, sign: float) -> None:
    found = coefficient(ecpo, log_pi, log_old, sign)
    if sign < 0:
        assert -(1 + 0.2 + 0.1) * (1 + 1e-6) <= found <= 0
    else:
        assert found == coefficient(grpo, log_pi, log_old, sign)
        assert 0 <= found <= 1.2 * (1 + 1e-6)


@given(log_probability, st.none() | log_probability, sign)
def test_gbpo_is_bounded_by_cross_entropy(log_pi: float, log_old: float | None, sign: float) -> None:
    found = coefficient(gbpo, log_pi, log_old, sign)
    if sign > 0:
        assert 0 <= found <= 1
        return
    pi = torch.tensor(log_pi).double().exp()  # of log π as float32 holds it: near π = 1 the bound is steep
    rest = -torch.expm1(torch.tensor(log_pi).double())
    bound = float(pi / rest) if rest > 0 else float("inf")
    assert -bound * (1 + 1e-4) - 1e-40 <= found <= 0
    if log_old is None:
        assert found == pytest.approx(-min(1.0, bound), rel=1e-4, abs=1e-40)


@given(st.lists(log_probability, min_size=4, max_size=4), st.lists(log_probability, min_size=4, max_size=4), sign)
def test_everything_stays_finite(log_pi: list[float], log_old: list[float], sign: float) -> None:
    for objective, settings in [
        (grpo, {}),
        (grpo, {"level": "item"}),
        (ecpo, {}),
        (ecpo, {"level": "code"}),
        (gbpo, {}),
    ]:
        log_pi_BGL = torch.tensor(log_pi).view(1, 2, 2).requires_grad_()
        made = objective(log_pi_BGL, torch.tensor([[sign, -sign]]), torch.tensor(log_old).view(1, 2, 2), **settings)
        made.loss.backward()
        assert log_pi_BGL.grad is not None and log_pi_BGL.grad.isfinite().all()
        figures = [made.loss.detach(), made.ratio_mean, made.ratio_max, made.negative_coefficient]
        assert torch.stack(figures).isfinite().all()


def test_losses_equal_their_printed_formulas() -> None:
    """Values against the formulas as they are printed, in double precision, gradients against autograd of them."""
    torch.manual_seed(0)
    log_pi = (-3 * torch.rand(4, 5, 3, dtype=torch.float64)).requires_grad_()
    old, advantages = log_pi.detach() + torch.randn(4, 5, 3).double() * 0.4, torch.randn(4, 5, dtype=torch.float64)
    a = advantages[..., None]

    def clipped(ratio: Tensor, a: Tensor) -> Tensor:
        return -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()

    raised = torch.maximum(log_pi.detach().sum(-1).exp() / 1.3, old.sum(-1).exp())
    rest = torch.where(a < 0, 1 - log_pi.detach().exp(), log_pi.detach().exp())
    pairs = [
        (grpo(log_pi, advantages, old).loss, clipped((log_pi - old).exp(), a)),
        (grpo(log_pi, advantages, old, level="item").loss, clipped((log_pi - old).sum(-1).exp(), advantages)),
        (ecpo(log_pi, advantages, old).loss, clipped(log_pi.sum(-1).exp() / raised, advantages)),
        (gbpo(log_pi, advantages, old).loss, -(log_pi.exp() / torch.maximum(old.exp(), rest) * a).mean()),
    ]
    for ours, printed in pairs:
        assert ours.item() == pytest.approx(printed.item(), rel=1e-12)
        gradients = [torch.autograd.grad(loss, log_pi)[0] for loss in (ours, printed)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_without_old_probabilities_ratios_are_one() -> None:
    torch.manual_seed(0)
    log_pi, advantages = -torch.rand(3, 4, 2), torch.randn(3, 4)
    for objective in (grpo, ecpo, gbpo):
        assert objective(log_pi, advantages).loss == objective(log_pi, advantages, log_pi).loss
    some_missing = log_pi.clone()
    some_missing[1] = torch.nan
    assert gbpo(log_pi, advantages, some_missing).loss == gbpo(log_pi, advantages).loss


def test_figures_of_curves() -> None:
    log_pi = torch.tensor([[[0.5], [0.5], [0.1], [0.2]]]).log()
    old = torch.tensor([[[0.25], [0.25], [0.1], [0.4]]]).log()
    made = grpo(log_pi, torch.tensor([[-1.0, 1.0, 0.0, -3.0]]), old)
    assert float(made.ratio_mean) == pytest.approx((2 + 2 + 1 + 0.5) / 4)
    assert float(made.ratio_max) == pytest.approx(2)
    assert float(made.clipped_share) == pytest.approx(2 / 3)  # 2 with A = 1, and .5 with A = -3
    assert float(made.negative_coefficient) == pytest.approx((2 + 0) / 2)


def test_advantages() -> None:
    rewards = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [5.0, 5.0, 2.0]])
    found = group_advantages(rewards)
    assert found[0].tolist() == pytest.approx([-1, 0, 1])
    assert found[1].tolist() == [0, 0, 0]
    assert found[2].tolist() == pytest.approx([1 / 3**0.5, 1 / 3**0.5, -2 / 3**0.5])
    assert group_advantages(rewards, scale=False)[2].tolist() == [1, 1, -2]
    assert group_advantages(torch.tensor([[4.0]])).tolist() == [[0.0]]


@given(st.integers(0, 1000), st.floats(0.1, 1e3), st.floats(-1e3, 1e3))
def test_advantages_ignore_scale_and_shift_and_equal_rewards_have_none(seed: int, scale: float, shift: float) -> None:
    rewards = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(
        group_advantages(rewards), group_advantages(rewards * scale + shift), rtol=1e-5, atol=1e-6
    )
    equal = torch.full((2, 7), shift, dtype=torch.float32) / 3
    assert not group_advantages(equal).any()


def test_preferences() -> None:
    rewards = torch.tensor([[0.5, 2.0, -1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    hard, every = hard_negatives(rewards), softmax_negatives(rewards)
    assert hard.winner_B[0] == 1 and hard.losers_BG.tolist() == [[False, False, True, False], [False] * 4]
    assert every.losers_BG.tolist() == [[True, False, True, False], [False] * 4]
    draws = [random_negatives(rewards, torch.Generator().manual_seed(seed)).losers_BG for seed in range(40)]
    assert all(draw.sum().item() == 1 for draw in draws)
    assert torch.stack(draws).any(dim=0).tolist() == every.losers_BG.tolist()


def test_dpo_equals_a_plain_reference() -> None:
    torch.manual_seed(1)
    log_pi, reference, rewards = (torch.randn(6, 5, dtype=torch.float64) for _ in range(3))
    log_pi.requires_grad_()
    rewards[2] = 0.5  # no preference in this group
    groups = [0, 1, 3, 4, 5]
    strength = 0.3 * (log_pi - reference)
    plain, several = [], []
    for row in groups:
        best, worst = int(rewards[row].argmax()), int(rewards[row].argmin())
        plain.append(-torch.log(torch.sigmoid(strength[row, best] - strength[row, worst])))
        others = [strength[row, loser] - strength[row, best] for loser in range(5) if loser != best]
        several.append(-torch.log(torch.sigmoid(-torch.log(torch.stack(others).exp().sum()))))
    for made, wanted in [
        (dpo(log_pi, reference, hard_negatives(rewards), beta=0.3), plain),
        (dpo(log_pi, reference, softmax_negatives(rewards), beta=0.3), several),
    ]:
        expected = torch.stack(wanted).mean()
        assert made.loss.item() == pytest.approx(expected.item(), rel=1e-12)
        gradients = [torch.autograd.grad(loss, log_pi, retain_graph=True)[0] for loss in (made.loss, expected)]
        torch.testing.assert_close(*gradients)
        assert int(made.groups) == 5
    margins = torch.stack([strength[r, rewards[r].argmax()] - strength[r, rewards[r].argmin()] for r in groups])
    made = dpo(log_pi, reference, hard_negatives(rewards), beta=0.3)
    assert float(made.margin) == pytest.approx(margins.mean().item())
    assert float(made.accuracy) == pytest.approx(float((margins > 0).double().mean()))


def test_dpo_without_any_preference_or_with_huge_margins_is_finite() -> None:
    log_pi = torch.tensor([[-5000.0, -1.0], [-1.0, -5000.0]], requires_grad=True)
    for rewards in (torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])):
        made = dpo(log_pi, torch.zeros(2, 2), softmax_negatives(rewards))
        (gradient,) = torch.autograd.grad(made.loss, log_pi)
        assert made.loss.isfinite() and gradient.isfinite().all()
        assert gradient.any() == rewards.any()
