"""The rewards that alignment learns from."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.run.run import Run
from rl.config.alignment import ScenarioConfig
from rl.config.run import config_of
from rl.reward_model.choice import rewarding_name
from rl.reward_model.stage import load_preference_score
from rl.rewards.hit import hit_reward
from rl.rewards.p_score import PScoreReward
from rl.rewards.rank import rank_reward
from rl.rewards.reward import Reward
from rl.rewards.scenario import class_of_items, hold_class_down
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class AlignRewards:
    """A weighted sum of rewards.

    Attributes:
        rewards: by name.
        weights: by name, at least one; rewards without a weight are not computed.
        scenario: how a class of items is held down, or None.
        in_class_N: boolean, which items belong to the class.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float]
    scenario: ScenarioConfig | None = None
    in_class_N: Tensor | None = None

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, float32 `[B, G]`, and each reward before it is weighted. Raises UserError if a reward is not finite."""
        parts = {name: self.rewards[name](prompts, rollouts) for name in self.weights}
        for name, part_BG in parts.items():
            if not bool(part_BG.isfinite().all()):
                raise UserError(f'reward "{name}" is not finite for some generation; train the reward model again')
        total_BG = torch.stack([weight * parts[name] for name, weight in self.weights.items()]).sum(dim=0)
        if self.scenario is not None and self.in_class_N is not None:
            scenario = self.scenario
            total_BG = hold_class_down(total_BG, rollouts, self.in_class_N, factor=scenario.factor, most=scenario.most)
        return total_BG, parts


def load_rewards(run: Run) -> AlignRewards:
    """The rewards that the config names.

    Raises:
        UserError: the reward model is not trained, or the scenario's class has no items.
    """
    align, rewarding = config_of(run).align, rewarding_name(config_of(run))
    rewards: dict[str, Reward] = {"hit": hit_reward, "rank": rank_reward}
    if rewarding is not None:
        rewards["p_score"] = PScoreReward(load_preference_score(run, rewarding))
    scenario = align.scenario
    in_class_N = None if scenario is None else class_of_items(run.dataset, scenario.column, scenario.value)
    return AlignRewards(rewards, align.rewards.used, scenario, in_class_N)
