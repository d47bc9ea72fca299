"""Which rewards an alignment learns from, and which reward model judges it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from onerec.align_config import ScenarioConfig
from onerec.errors import UserError
from onerec.pipeline import Run
from onerec.reward_config import Half, RewardConfig
from rl.prompts import Prompts
from rl.reward_model import load_preference_score, reward_section, reward_stage, train_reward_model
from rl.rewards.combined import CombinedReward, combine
from rl.rewards.hit import HitReward
from rl.rewards.preference_score import PreferenceScore
from rl.rewards.rank import RankReward
from rl.rewards.reward import Reward
from rl.rewards.scenario import ScenarioReward, class_of_items
from rl.rollouts import Rollouts

OTHER_HALF: Mapping[Half, Half] = {"first": "second", "second": "first"}


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

    def __call__(self, prompts: Prompts, rollouts: Rollouts) -> tuple[Tensor, dict[str, Tensor]]:
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


def selecting_section(run: Run) -> RewardConfig:
    """The settings of the reward model that may reward and select: not that of the users who are kept for judging.

    Raises:
        UserError: the config says reward: null.
    """
    section, judge_half = reward_section(run), run.config.align.judge_half
    return section if judge_half is None else with_half(section, OTHER_HALF[judge_half])


def rewarding_section(run: Run) -> RewardConfig | None:
    """The settings of the reward model that rewards; None where rewards are rules alone."""
    return selecting_section(run) if run.config.align.rewards.p_score else None


def judging_section(run: Run) -> RewardConfig | None:
    """The settings of the reward model that judges, which is never the one that rewards; None where there is to be none."""
    align, section = run.config.align, run.config.reward
    if section is None:
        return None
    if align.judge_half is not None:
        return with_half(section, align.judge_half)
    return None if align.rewards.p_score else section


def with_half(section: RewardConfig, half: Half) -> RewardConfig:
    """The same settings for the reward model of half of the users."""
    return section.model_copy(update={"half": half})


def train_reward_models(run: Run) -> None:
    """Train the reward model that rewards, and the one that judges it, where they are not there yet."""
    rewarding = rewarding_section(run)
    if rewarding is None:
        return
    for section in (rewarding, judging_section(run)):
        if section is not None:
            train_where_missing(run, section)


def train_where_missing(run: Run, section: RewardConfig) -> None:
    """Train a reward model, unless it is there."""
    if not reward_stage(run, section).done:
        run.say(f"reward model: training the one of {section.half or 'all'} users")
        train_reward_model(run, section)


def load_rewards(run: Run) -> AlignRewards:
    """The rewards that the config names.

    Raises:
        UserError: the reward model is not trained, or no item is of the scenario's class.
    """
    align, section = run.config.align, rewarding_section(run)
    known: dict[str, Reward] = {"hit": HitReward(), "rank": RankReward()}
    if section is not None:
        known["p_score"] = load_preference_score(run, section)
    combined, scenario = combine(known, align.rewards.used), align.scenario
    if scenario is None:
        return AlignRewards(combined)
    return AlignRewards(combined, scenario, class_of_items(run.dataset, scenario.column, scenario.value))


def load_judge(run: Run) -> PreferenceScore | None:
    """The reward model that judges; None where it is not trained, which rules as rewards do not ask for."""
    section = judging_section(run)
    if section is None or not reward_stage(run, section).done:
        return None
    return load_preference_score(run, section)
