"""The parts of an alignment step: figures of groups, divergence from the start, and illegal generations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from align_cases import make_prompts, settings
from torch import Tensor

from onerec.errors import UserError
from rl.alignment.collapse import CollapseWatch
from rl.alignment.step import Groups, downward_gradient_norm, group_figures, kl_to_start, objective_loss
from rl.config.alignment import AlignConfig
from rl.objectives import group_advantages
from rl.rollouts.policy import ScoredCodes
from rl.rollouts.rollouts import Rollouts


def made(items: list[list[int]]) -> Rollouts:
    items_BG = torch.tensor(items)
    codes_BGL = torch.zeros(*items_BG.shape, 3, dtype=torch.long)
    return Rollouts(codes_BGL, items_BG, torch.full(codes_BGL.shape, -1.0))


def gradient_of(config: AlignConfig, items: list[int], rewards: list[float], log_start: float) -> tuple[Tensor, float]:
    """The gradient for one group's log-probabilities, which are all -1 under the policy, `[G, L]`; and the loss."""
    log_pi_BGL = torch.full((1, 4, 3), -1.0, requires_grad=True)
    groups = Groups(make_prompts(), made([items]), torch.tensor([rewards]), torch.full((1, 4), log_start))
    scored, draw = ScoredCodes(log_pi_BGL, log_pi_BGL.detach()), torch.Generator().manual_seed(1)
    loss, figures = objective_loss(config, scored, groups, draw)
    assert float(figures.get("compared_groups", 1)) == 1
    return torch.autograd.grad(loss, log_pi_BGL)[0][0], loss.item()


def test_figures_are_of_generations_that_are_items() -> None:
    rollouts = made([[3, 3, 4, -1], [5, 6, 3, 7]])
    rewards = torch.tensor([[1.0, 3.0, 5.0, 99.0], [2.0, 2.0, 2.0, 2.0]])
    figures = {name: float(one) for name, one in group_figures(rollouts, rewards, {"x": rewards * 2}).items()}
    assert figures["reward"] == pytest.approx(17 / 7)
    assert figures["reward/x"] == pytest.approx(34 / 7)
    assert figures["reward_spread"] == pytest.approx(1.0)  # 2 and 0
    assert figures["legality"] == pytest.approx(7 / 8)
    assert figures["items_in_group"] == pytest.approx(6 / 8)
    assert figures["items_in_batch"] == pytest.approx(5 / 8)


def test_advantages_of_part_of_a_group_are_those_of_a_smaller_group() -> None:
    rewards = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    counted = torch.tensor([True, True, False, True, True, False]).expand(5, -1)
    for scale in (True, False):
        found = group_advantages(rewards, counted, scale=scale)
        kept = group_advantages(rewards[:, [0, 1, 3, 4]], scale=scale)
        torch.testing.assert_close(found[:, [0, 1, 3, 4]], kept)
        assert not found[:, [2, 5]].any()
    assert not group_advantages(rewards, torch.zeros_like(counted)).any()


@pytest.mark.parametrize("objective", ["ecpo", "gbpo", "grpo"])
def test_dropped_generations_have_no_gradient_and_worst_ones_have(objective: str) -> None:
    for illegal in ("dropped", "worst"):
        config = settings(objective=objective, illegal=illegal, rollouts={"group_size": 4, "method": "free"})
        gradient_GL, _ = gradient_of(config, [3, 4, -1, 5], [0.9, 0.5, 0.0, 0.1], log_start=0.0)
        assert (gradient_GL[2] > 0).all() if illegal == "worst" else not gradient_GL[2].any()
        assert (gradient_GL[0] < 0).all()


def test_ipa_and_dpo_push_the_best_up_and_the_negatives_that_were_asked_for_down() -> None:
    group = {"items": [3, 4, 5, 6], "rewards": [0.2, 0.9, 0.5, 0.1], "log_start": -3.0}
    gradient_GL, loss = gradient_of(settings(objective="ipa"), **group)
    assert loss == pytest.approx(0.6931, abs=1e-4)
    assert gradient_GL[:, 0].sign().tolist() == [0, -1, 0, 1]
    for negatives, losers in (("hard", 1), ("softmax", 3), ("random", 1)):
        gradient_GL, _ = gradient_of(settings(objective="dpo", negatives=negatives), **group)
        assert (gradient_GL[:, 0] > 0).sum() == losers


@pytest.mark.parametrize("objective", ["ecpo", "grpo", "gbpo", "dpo"])
def test_the_downward_norm_equals_that_of_the_disliked_generations_loss(objective: str) -> None:
    """Rewards of two groups are 1 and 0, so what is disliked is known; its own loss is the reference. Ratios are far from 1."""
    draw = torch.Generator().manual_seed(3)
    weights = torch.randn(12, 5, generator=draw).requires_grad_()
    features = torch.randn(2, 4, 3, 12, generator=draw)
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    old = replace(made([[3, 4, 5, 6], [7, 8, 9, 10]]), log_probabilities_BGL=torch.full((2, 4, 3), -3.0))
    groups = Groups(make_prompts(), old, rewards, torch.full((2, 4), -9.0))

    def log_probabilities() -> Tensor:
        return (features @ weights).log_softmax(dim=-1)[..., 0]

    config = settings(objective=objective, negatives="softmax")
    log_pi = log_probabilities()
    loss, _ = objective_loss(config, ScoredCodes(log_pi, log_pi.detach()), groups, torch.Generator())
    found = downward_gradient_norm(loss, log_pi, [weights])
    assert weights.grad is None
    # Liked generations are constants here, so that only the others move.
    partly = log_probabilities()
    partly = torch.where(rewards[..., None] == 0, partly, partly.detach())
    alone, _ = objective_loss(config, ScoredCodes(partly, partly.detach()), groups, torch.Generator())
    alone.backward()
    assert weights.grad is not None and float(found) > 0
    torch.testing.assert_close(found, weights.grad.norm())
    loss.backward()  # the graph is still there


def test_divergence_is_exact_for_the_whole_catalogue_and_unbiased_for_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    log_pi = torch.randn(2, 50, generator=draw).log_softmax(dim=1)
    log_start = (log_pi + 0.5 * torch.randn(2, 50, generator=draw)).log_softmax(dim=1)
    exact = (log_pi.exp() * (log_pi - log_start)).sum(dim=1).mean()
    torch.testing.assert_close(kl_to_start(log_pi, log_start, sampled=False), exact)
    samples = torch.multinomial(log_pi.exp(), 100_000, replacement=True, generator=draw)
    estimate = kl_to_start(log_pi.gather(1, samples), log_start.gather(1, samples), sampled=True)
    # The estimate's terms spread by less than 1, so a mean over 200,000 is within .01 with a wide margin.
    assert float(estimate) == pytest.approx(float(exact), abs=0.01)
    assert float(kl_to_start(log_pi, log_pi, sampled=True)) == 0


def test_a_limit_counts_consecutive_steps() -> None:
    watch = CollapseWatch(settings(limits={"legality": 0.5, "entropy": 0.25, "patience": 2}).limits)
    assert [watch.update(one, 4.0) is None for one in (1.0, 0.4, 0.6, 0.4)] == [True] * 4
    other = replace(watch, low=dict(watch.low))
    other.load_state_dict(watch.state_dict())
    for one in (watch, other):
        assert "legality has collapsed" in (one.update(0.4, 4.0) or "")
    assert watch.update(1.0, 0.9) is None
    assert "entropy has collapsed" in (watch.update(1.0, 0.9) or "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": {"weight": 1.0}}, "needs method: free"),
        ({"objective": "dpo", "rollouts": {"method": "free"}}, "compares items"),
        ({"objective": "ipa", "rollouts": {"method": "sample"}}, "best of a beam with the worst"),
        ({"objective": "ipa", "negatives": "softmax"}, "best of a beam with the worst"),
    ],
)
def test_contradictory_settings_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AlignConfig(**changed)
