"""One step of alignment as functions: from groups with rewards to a loss and the figures of its curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.config.alignment import PREFERENCE_OBJECTIVES, AlignConfig
from rl.objectives import (
    PolicyLoss,
    Preferences,
    dpo,
    ecpo,
    gbpo,
    group_advantages,
    grpo,
    hard_negatives,
    random_negatives,
    softmax_negatives,
)
from rl.rewards.format import format_advantages
from rl.rollouts.policy import ScoredCodes
from rl.rollouts.rollouts import Rollouts

Figures = dict[str, Tensor]


@dataclass(frozen=True)
class Groups:
    """Generations of one step.

    Attributes:
        prompts: B histories.
        rollouts: G generations for each.
        rewards_BG: float32, the weighted sum of rewards.
        reference_BG: float32, log-probabilities of whole items under DPO's reference; other objectives ignore it.
    """

    prompts: Requests
    rollouts: Rollouts
    rewards_BG: Tensor
    reference_BG: Tensor


def objective_loss(
    config: AlignConfig, scored: ScoredCodes, groups: Groups, rng: torch.Generator
) -> tuple[Tensor, Figures]:
    """The loss of the config's objective, a scalar with a gradient, and its figures.

    Args:
        scored: the generations under the current policy.
        rng: draws random negatives.
    """
    if config.objective in PREFERENCE_OBJECTIVES:
        return preference_loss(config, scored, groups, rng)
    return policy_loss(config, scored, groups)


def policy_loss(config: AlignConfig, scored: ScoredCodes, groups: Groups) -> tuple[Tensor, Figures]:
    """ECPO, GBPO or GRPO on advantages within groups, and on those of the format reward if it has a weight."""
    rollouts = groups.rollouts
    counted_BG = rollouts.legal if config.illegal == "dropped" else None
    advantages_BG = group_advantages(groups.rewards_BG, counted_BG, scale=config.scale_advantages)
    terms = (scored.log_probabilities_BGL, advantages_BG, rollouts.log_probabilities_BGL)
    made = bounded_objective(config, *terms)
    loss = made.loss
    figures = {
        "ratio_mean": made.ratio_mean,
        "ratio_max": made.ratio_max,
        "clipped_share": made.clipped_share,
        "negative_coefficient": made.negative_coefficient,
    }
    if config.format.weight:
        format_BG = format_advantages(rollouts, config.format.chosen, config.format.by)
        format_loss = bounded_objective(config, terms[0], format_BG, terms[2]).loss
        loss = loss + config.format.weight * format_loss
        figures["format_loss"] = format_loss.detach()
    return loss, figures


def bounded_objective(config: AlignConfig, log_pi_BGL: Tensor, advantages_BG: Tensor, old_BGL: Tensor) -> PolicyLoss:
    """The config's policy objective, with its constants."""
    if config.objective == "gbpo":
        return gbpo(log_pi_BGL, advantages_BG, old_BGL)
    terms = (log_pi_BGL, advantages_BG, old_BGL)
    if config.objective == "ecpo":
        return ecpo(*terms, level=config.level, clip=config.clip, excess=config.excess)
    return grpo(*terms, level=config.level, clip=config.clip)


def preference_loss(
    config: AlignConfig, scored: ScoredCodes, groups: Groups, rng: torch.Generator
) -> tuple[Tensor, Figures]:
    """DPO on the best of each group against its negatives."""
    preferences = preferences_of(config, groups.rewards_BG, rng)
    log_pi_BG = scored.log_probabilities_BGL.sum(dim=-1)
    made = dpo(log_pi_BG, groups.reference_BG, preferences, beta=config.beta)
    ratios_BG = (log_pi_BG.detach() - groups.reference_BG).exp()
    return made.loss, {
        "ratio_mean": ratios_BG.mean(),
        "ratio_max": ratios_BG.max(),
        "margin": made.margin,
        "accuracy": made.accuracy,
        "compared_groups": made.groups / len(log_pi_BG),
    }


def preferences_of(config: AlignConfig, rewards_BG: Tensor, rng: torch.Generator) -> Preferences:
    """The winners and losers of the config's `negatives`."""
    if config.negatives == "softmax":
        return softmax_negatives(rewards_BG)
    if config.negatives == "random":
        return random_negatives(rewards_BG, rng)
    return hard_negatives(rewards_BG)


def downward_gradient_norm(loss: Tensor, log_probabilities: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The norm of the part of a loss's gradient that makes generations less likely.

    These generations have a negative advantage, or are losers of DPO. In the whole gradient, upward and downward parts cancel in
    part, so its norm can hide a strong push. The gradients of `parameters` and the loss's graph stay as they are.

    Args:
        loss: a scalar that depends on `parameters` only through `log_probabilities`.
        log_probabilities: of the generations' codes.
        parameters: of the policy.
    """
    (slopes,) = torch.autograd.grad(loss, log_probabilities, retain_graph=True, materialize_grads=True)
    downward = slopes.clamp(min=0.0)  # where the loss grows with a log-probability, a step lowers it
    gradients = torch.autograd.grad(log_probabilities, parameters, downward, retain_graph=True, allow_unused=True)
    return torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])


def group_figures(rollouts: Rollouts, rewards_BG: Tensor, parts: Mapping[str, Tensor]) -> Figures:
    """Rewards, legality and diversity of a step's generations.

    Returns:
        `reward`, the mean over legal generations; `reward_spread`, the mean over groups of the standard deviation within a group;
        `reward/<name>`, the mean of each reward; `legality`, the share of generations that are items; `items_in_group` and
        `items_in_batch`, the number of different items per generation, within groups and within the step.
    """
    legal_BG = rollouts.legal
    count = legal_BG.sum().clamp(min=1)

    def mean(values_BG: Tensor) -> Tensor:
        return values_BG.masked_fill(~legal_BG, 0.0).sum() / count

    means_B1 = rewards_BG.masked_fill(~legal_BG, 0.0).sum(dim=1, keepdim=True) / legal_BG.sum(
        dim=1, keepdim=True
    ).clamp(1)
    squares_BG = (rewards_BG - means_B1).square().masked_fill(~legal_BG, 0.0)
    sizes_B = (legal_BG.sum(dim=1) - 1).clamp(min=1)
    sorted_BG = rollouts.items_BG.sort(dim=1).values
    new_BG = torch.ones_like(legal_BG)
    new_BG[:, 1:] = sorted_BG[:, 1:] != sorted_BG[:, :-1]
    return {
        "reward": mean(rewards_BG),
        "reward_spread": (squares_BG.sum(dim=1) / sizes_B).sqrt().mean(),
        **{f"reward/{name}": mean(part_BG) for name, part_BG in parts.items()},
        "legality": legal_BG.float().mean(),
        "items_in_group": (new_BG & (sorted_BG >= 0)).float().mean(),
        "items_in_batch": torch.tensor(len(rollouts.items_BG[legal_BG].unique()) / legal_BG.numel()),
    }


def kl_to_start(log_pi_BG: Tensor, log_start_BG: Tensor, *, sampled: bool) -> Tensor:
    """The Kullback-Leibler divergence of the policy from its start, in nats per item, from generations of the policy; at least 0.

    Independent samples give the estimate mean(r - 1 - log r) with r = π_start / π (Schulman, "Approximating KL Divergence",
    2020). Beams and other groups of different items are not samples. For them it is the divergence of the two distributions
    over the group's items.
    """
    if sampled:
        log_ratio_BG = log_start_BG - log_pi_BG
        return (log_ratio_BG.clamp(max=20).exp() - 1 - log_ratio_BG).mean()
    log_pi_BG, log_start_BG = log_pi_BG.log_softmax(dim=1), log_start_BG.log_softmax(dim=1)
    return (log_pi_BG.exp() * (log_pi_BG - log_start_BG)).sum(dim=1).mean()
