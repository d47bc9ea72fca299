"""Which rewards an alignment learns from."""

from dataclasses import dataclass

from torch import Tensor

from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.run.run import Run
from rl.config.alignment import ScenarioConfig
from rl.config.run import config_of
from rl.reward_model.choice import rewarding_name
from rl.reward_model.stage import load_preference_score
from rl.rewards.combined import CombinedReward, combine
from rl.rewards.hit import HitReward
from rl.rewards.p_score import PScoreReward
from rl.rewards.rank import RankReward
from rl.rewards.reward import Reward
from rl.rewards.scenario import ScenarioReward, class_of_items
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class AlignRewards:
    """The rewards of a config as one.

    Attributes:
        combined: their weighted sum.
        scenario: a class of items that is held down, or None.
        in_class_N: boolean, the items of that class.
    """

    combined: CombinedReward
    scenario: ScenarioConfig | None = None
    in_class_N: Tensor | None = None

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewards float32 `[B, G]`, and what each gave before it was weighted.

        Raises:
            UserError: a reward is not finite.
        """
        parts = self.combined.parts(prompts, rollouts)
        for name, part_BG in parts.items():
            if not bool(part_BG.isfinite().all()):
                raise UserError(f'reward "{name}" is not finite for some generation; train the reward model again')
        total_BG = self.combined.total(parts)
        if self.scenario is None or self.in_class_N is None:
            return total_BG, parts
        held = ScenarioReward(lambda *_: total_BG, self.in_class_N, self.scenario.factor, self.scenario.most)
        return held(prompts, rollouts), parts


def load_rewards(run: Run) -> AlignRewards:
    """The rewards that the config names.

    Raises:
        UserError: the reward model is not trained, or no item is of the scenario's class.
    """
    align, rewarding = config_of(run).align, rewarding_name(config_of(run))
    known: dict[str, Reward] = {"hit": HitReward(), "rank": RankReward()}
    if rewarding is not None:
        known["p_score"] = PScoreReward(load_preference_score(run, rewarding))
    combined, scenario = combine(known, align.rewards.used), align.scenario
    if scenario is None:
        return AlignRewards(combined)
    return AlignRewards(combined, scenario, class_of_items(run.dataset, scenario.column, scenario.value))
