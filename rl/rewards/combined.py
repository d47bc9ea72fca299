"""Several rewards as one: a weighted sum."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.checks import nearest_name
from onerec.data.requests import Requests
from onerec.errors import UserError
from rl.rewards.reward import Reward
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class CombinedReward:
    """The sum of rewards, each times its weight.

    Attributes:
        rewards: by name.
        weights: by the same names, at least one.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float]

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`."""
        return self.total(self.parts(prompts, rollouts))

    def parts(self, prompts: Requests, rollouts: Rollouts) -> dict[str, Tensor]:
        """Every reward before it is weighted, float32 `[B, G]` each: what a log shows."""
        return {name: self.rewards[name](prompts, rollouts) for name in self.weights}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of `parts`."""
        weighted = [weight * parts[name] for name, weight in self.weights.items()]
        return torch.stack(weighted).sum(dim=0)


def combine(rewards: Mapping[str, Reward], weights: Mapping[str, float]) -> CombinedReward:
    """The rewards that `weights` names.

    Raises:
        UserError: no weights, or one for a reward that there is not.
    """
    if not weights:
        raise UserError(f"no reward is named; choose from {', '.join(rewards)}")
    for name in weights:
        if name not in rewards:
            raise UserError(f'there is no reward "{name}"; {nearest_name(name, list(rewards))}')
    return CombinedReward({name: rewards[name] for name in weights}, dict(weights))
