"""The losses of policy optimisation, as pure functions of log-probabilities and advantages.

The derivative of a policy objective J with respect to a log-probability has a closed form, its *coefficient*. A coefficient above
0 makes a generation more likely. The functions here compute the coefficients first, from logarithms of ratios, and then build a
loss with the objective's value and exactly that gradient. So no gradient passes through the exponential of a large number, and
gradients are exact even where π / π_old is huge.

Sources: OneRec Technical Report (arXiv 2506.13695, section on ECPO); OneRec-V2 (arXiv 2508.20900, section on GBPO); GRPO
(arXiv 2402.03300); DPO (arXiv 2305.18290); S-DPO (arXiv 2406.09215); iterative preference alignment (OneRec, arXiv 2502.18965).
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Level = Literal["item", "code"]
# A ratio above e^80 counts as e^80: float32 ends at e^88, and sums and products with it must stay finite.
LARGEST_LOG_RATIO = 80.0
SMALLEST_SPREAD = 1e-6  # relative to the largest reward, or to 1; equal rewards differ by less through rounding


@dataclass(frozen=True)
class PolicyLoss:
    """A policy objective with its sign turned, and figures for its curves. All are scalars; only `loss` has a gradient.

    Attributes:
        loss: to be minimised; a mean over generations, and over codes where ratios are taken per code.
        ratio_mean, ratio_max: of π / π'_old, where π'_old is π_old with the objective's bound.
        clipped_share: share of the terms with an advantage that get no gradient.
        negative_coefficient: mean |coefficient| of the terms with a negative advantage; 0 if there are none.
    """

    loss: Tensor
    ratio_mean: Tensor
    ratio_max: Tensor
    clipped_share: Tensor
    negative_coefficient: Tensor


def group_advantages(rewards_BG: Tensor, counted_BG: Tensor | None = None, *, scale: bool = True) -> Tensor:
    """How much better each generation is than its group: (r - mean) / std, `[B, G]`.

    If all rewards of a group are equal, its advantages are 0. The variance divides by G - 1. trl computes the same standard
    deviation, but divides by std + 0.0001.

    Source: arXiv 2506.13695, section on ECPO. Without the division: Dr. GRPO (arXiv 2503.20783).

    Args:
        rewards_BG: G rewards for each of B users.
        counted_BG: boolean, the generations that make up the group; others get advantage 0. None: all.
        scale: divide by the group's standard deviation. Otherwise, groups whose rewards differ more weigh more.
    """
    if counted_BG is None:
        counted_BG = torch.ones_like(rewards_BG, dtype=torch.bool)
    rewards_BG, sizes_B1 = rewards_BG.masked_fill(~counted_BG, 0.0), counted_BG.sum(dim=1, keepdim=True)
    means_B1 = rewards_BG.sum(dim=1, keepdim=True) / sizes_B1.clamp(min=1)
    centred_BG = (rewards_BG - means_B1).masked_fill(~counted_BG, 0.0)
    spread_B1 = (centred_BG.square().sum(dim=1, keepdim=True) / (sizes_B1 - 1).clamp(min=1)).sqrt()
    alike_B1 = spread_B1 <= SMALLEST_SPREAD * rewards_BG.abs().amax(dim=1, keepdim=True).clamp(min=1.0)
    if scale:
        centred_BG = centred_BG / spread_B1.masked_fill(alike_B1, 1.0)
    return centred_BG.masked_fill(alike_B1, 0.0)


def grpo(
    log_probabilities_BGL: Tensor,
    advantages_BG: Tensor,
    old_BGL: Tensor | None = None,
    *,
    level: Level = "code",
    clip: float = 0.2,
) -> PolicyLoss:
    """J = mean( min( ρ A, clip(ρ, 1 - ε, 1 + ε) A ) ) with ρ = π / π_old.

    For A < 0 and large ρ the clip does not bind: the coefficient grows with ρ, without a bound.

    Source: GRPO (arXiv 2402.03300, section 4.1), without its KL term. trl's `loss_type="grpo"` is `level="code"`.

    Args:
        log_probabilities_BGL: `log π` of each code given the codes before it, in nats, finite.
        advantages_BG: A of each generation.
        old_BGL: `log π_old` of the policy that generated. None: the current policy did.
        level: "code" takes ρ per code; "item" takes it for whole items, from the sums over the L codes.
        clip: ε.
    """
    log_ratio, log_pi, advantages = _terms(log_probabilities_BGL, advantages_BG, old_BGL, level)
    return _clipped(log_ratio, log_pi, advantages, clip)


def ecpo(
    log_probabilities_BGL: Tensor,
    advantages_BG: Tensor,
    old_BGL: Tensor | None = None,
    *,
    level: Level = "item",
    clip: float = 0.2,
    excess: float = 0.1,
) -> PolicyLoss:
    """GRPO with a ratio of at most 1 + ε + δ: a π_old below π / (1 + ε + δ) is raised to it, as a constant.

    Unlike a clip, this keeps the gradient: for A < 0 the coefficient is A times a ratio of at most 1 + ε + δ. For A > 0 it is
    GRPO. trl's `delta` is different: it is a clip and drops the gradient.

    Source: OneRec Technical Report (arXiv 2506.13695, section on ECPO). The report does not give ε; its δ is 0.1.

    Args:
        log_probabilities_BGL, advantages_BG, old_BGL, level, clip: as in `grpo`.
        excess: δ, above 0.
    """
    log_ratio, log_pi, advantages = _terms(log_probabilities_BGL, advantages_BG, old_BGL, level)
    return _clipped(log_ratio.clamp(max=log(1 + clip + excess)), log_pi, advantages, clip)


def gbpo(log_probabilities_BGL: Tensor, advantages_BG: Tensor, old_BGL: Tensor | None = None) -> PolicyLoss:
    """J = mean( π / π'_old · A ) over codes. π'_old is the constant max(π_old, π) for A ≥ 0, and max(π_old, 1 - π) for A < 0.

    Nothing is clipped. For A < 0 the coefficient is at most π / (1 - π) times |A|: binary cross-entropy pushes a negative down
    with the same force. For A ≥ 0 it is at most A. Where π_old is unknown, because another system chose the exposure, π takes
    its place.

    Source: OneRec-V2 (arXiv 2508.20900, section on GBPO).

    Args:
        log_probabilities_BGL, advantages_BG: as in `grpo`.
        old_BGL: `log π_old`; NaN for codes where it is unknown. None: unknown for all.
    """
    log_pi = log_probabilities_BGL.detach().clamp(max=0.0)  # rounding may lift the log of probability 1 above 0
    old = log_pi if old_BGL is None else torch.where(old_BGL.isnan(), log_pi, old_BGL.detach())
    advantages = advantages_BG[..., None].expand_as(log_pi)
    bounded_old = torch.maximum(old, torch.where(advantages < 0, _log_of_rest(log_pi), log_pi))
    ratio = (log_pi - bounded_old).clamp(max=LARGEST_LOG_RATIO).exp()
    return _policy_loss(ratio * advantages, ratio * advantages, ratio, log_probabilities_BGL, advantages)


def _terms(
    log_probabilities_BGL: Tensor, advantages_BG: Tensor, old_BGL: Tensor | None, level: Level
) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of ratios (no gradient), log-probabilities and advantages: `[B, G]` for items, `[B, G, L]` for codes."""
    log_pi, advantages = log_probabilities_BGL, advantages_BG[..., None].expand_as(log_probabilities_BGL)
    log_ratio = torch.zeros_like(log_pi) if old_BGL is None else (log_pi - old_BGL).detach()
    if level == "item":
        return log_ratio.sum(dim=-1), log_pi.sum(dim=-1), advantages_BG
    return log_ratio, log_pi, advantages


def _clipped(log_ratio: Tensor, log_pi: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    value = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    bound = ((advantages > 0) & (ratio > 1 + clip)) | ((advantages < 0) & (ratio < 1 - clip))
    return _policy_loss(value, (ratio * advantages).masked_fill(bound, 0.0), ratio, log_pi, advantages)


def _policy_loss(value: Tensor, coefficient: Tensor, ratio: Tensor, log_pi: Tensor, advantages: Tensor) -> PolicyLoss:
    """A loss with value -mean(value) and the gradient of -mean(coefficient · log π)."""
    value, coefficient, negative = value.detach(), coefficient.detach(), advantages < 0
    loss = -(value + coefficient * (log_pi - log_pi.detach())).mean()
    with_advantage = advantages != 0
    return PolicyLoss(
        loss,
        ratio.mean(),
        ratio.max(),
        ((coefficient == 0) & with_advantage).sum() / with_advantage.sum().clamp(min=1),
        (coefficient.abs() * negative).sum() / negative.sum().clamp(min=1),
    )


def _log_of_rest(log_pi: Tensor) -> Tensor:
    """log(1 - π) from log π <= 0, exact at both ends."""
    near_one = log_pi > -log(2)
    # The branch that `where` discards gets a harmless input.
    far = torch.log1p(-log_pi.masked_fill(near_one, -1.0).exp())
    near = torch.log(-torch.expm1(log_pi.masked_fill(~near_one, -0.5)))
    return torch.where(near_one, near, far)


@dataclass(frozen=True)
class Preferences:
    """The best generation of each group and those that it is preferred to.

    Attributes:
        winner_B: int64, the position of the best generation.
        losers_BG: boolean, the generations that it is preferred to; none where all rewards of a group are equal.
    """

    winner_B: Tensor
    losers_BG: Tensor


def hard_negatives(rewards_BG: Tensor) -> Preferences:
    """The best against the worst of its group: the "self-hard negatives" of OneRec's IPA (arXiv 2502.18965)."""
    places_BG = torch.arange(rewards_BG.shape[1], device=rewards_BG.device)
    worst_BG = places_BG == rewards_BG.argmin(dim=1, keepdim=True)
    return Preferences(rewards_BG.argmax(dim=1), worst_BG & _worse_than_best(rewards_BG))


def softmax_negatives(rewards_BG: Tensor) -> Preferences:
    """The best against all worse ones at once: the negatives of S-DPO (arXiv 2406.09215)."""
    return Preferences(rewards_BG.argmax(dim=1), _worse_than_best(rewards_BG))


def random_negatives(rewards_BG: Tensor, generator: torch.Generator | None = None) -> Preferences:
    """The best against one worse generation, drawn uniformly: the control for hard negatives."""
    worse_BG = _worse_than_best(rewards_BG)
    drawn_BG = torch.rand(rewards_BG.shape, generator=generator, device=rewards_BG.device).masked_fill(~worse_BG, -1.0)
    places_BG = torch.arange(rewards_BG.shape[1], device=rewards_BG.device)
    return Preferences(rewards_BG.argmax(dim=1), worse_BG & (places_BG == drawn_BG.argmax(dim=1, keepdim=True)))


def _worse_than_best(rewards_BG: Tensor) -> Tensor:
    return rewards_BG < rewards_BG.amax(dim=1, keepdim=True)


@dataclass(frozen=True)
class PreferenceLoss:
    """DPO's loss and figures for its curves. All are scalars; only `loss` has a gradient.

    Attributes:
        loss: mean over the groups that have a loser; 0 if none has.
        margin: mean over all pairs of β · (log(π / π_ref) of the winner - that of the loser).
        accuracy: share of pairs with a margin above 0.
        groups: number of groups that have a loser.
    """

    loss: Tensor
    margin: Tensor
    accuracy: Tensor
    groups: Tensor


def dpo(
    log_probabilities_BG: Tensor, reference_BG: Tensor, preferences: Preferences, *, beta: float = 0.1
) -> PreferenceLoss:
    """-log σ( -log Σ_losers exp( β log(π(l) / π_ref(l)) - β log(π(w) / π_ref(w)) ) ). With one loser: -log σ(β Δ), plain DPO.

    Source: DPO (arXiv 2305.18290, section 4). Several losers: S-DPO (arXiv 2406.09215, section 3). The best against the worst of
    the model's own generations: IPA (arXiv 2502.18965), which does not report β.

    Args:
        log_probabilities_BG: `log π` of whole items, in nats.
        reference_BG: `log π_ref` of the same items, a constant.
        preferences: the winner and the losers of each group.
        beta: β, the strength of the pull towards the reference.
    """
    strength_BG = beta * (log_probabilities_BG - reference_BG.detach())
    behind_BG = strength_BG - strength_BG.gather(1, preferences.winner_B[:, None])
    losers_BG, compared_B = preferences.losers_BG, preferences.losers_BG.any(dim=1)
    # The fill value is finite: the gradient of logsumexp over a row of -inf alone would be NaN.
    together_B = behind_BG.masked_fill(~losers_BG, -1e9).logsumexp(dim=1)
    losses_B = -functional.logsigmoid(-together_B) * compared_B
    groups, pairs = compared_B.sum(), losers_BG.sum().clamp(min=1)
    margins_BG = -behind_BG.detach()
    return PreferenceLoss(
        losses_B.sum() / groups.clamp(min=1),
        (margins_BG * losers_BG).sum() / pairs,
        ((margins_BG > 0) & losers_BG).sum() / pairs,
        groups,
    )
