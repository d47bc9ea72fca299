"""The reward models of a run. One gives rewards and selects; the other learns from other users and judges."""

from collections.abc import Mapping

from onerec.errors import UserError
from onerec.scorers.preference_config import Half, RewardConfig
from rl.config.run import AlignmentRunConfig

OTHER_HALF: Mapping[Half, Half] = {"first": "second", "second": "first"}


def stage_name(half: Half | None) -> str:
    """The stage that trains the reward model of half of the users, or of all (None)."""
    return "reward" if half is None else f"reward_{half}"


def reward_section(config: AlignmentRunConfig) -> RewardConfig:
    """The settings of reward models. Raises UserError if the config says reward: null."""
    if config.reward is None:
        raise UserError("the config says reward: null; add a section reward (configs/demo.yaml explains its keys)")
    return config.reward


def selecting_name(config: AlignmentRunConfig) -> str:
    """The reward model that may give rewards and select, never the one that judges. Raises as `reward_section` does."""
    section, judge_half = reward_section(config), config.align.judge_half
    return stage_name(section.half if judge_half is None else OTHER_HALF[judge_half])


def rewarding_name(config: AlignmentRunConfig) -> str | None:
    """The reward model that gives rewards; None if all rewards are rules."""
    return selecting_name(config) if config.align.rewards.p_score else None


def judging_name(config: AlignmentRunConfig) -> str | None:
    """The reward model that judges, which is never the one that gives rewards; None if nobody judges."""
    if config.reward is None:
        return None
    if config.align.judge_half is not None:
        return stage_name(config.align.judge_half)
    return None if config.align.rewards.p_score else stage_name(config.reward.half)


def selects(config: AlignmentRunConfig) -> bool:
    """Whether `onerec run` selects by reward."""
    return "reward" in config.after_training and config.reward is not None


def aligns(config: AlignmentRunConfig) -> bool:
    """Whether `onerec run` aligns."""
    return "align" in config.after_training and (config.reward is not None or not config.align.rewards.p_score)


def trained_names(config: AlignmentRunConfig) -> list[str]:
    """The reward models that `onerec run` trains. Alignment by rules needs none."""
    rewards = aligns(config) and config.align.rewards.p_score
    return reward_names(config) if selects(config) or rewards else []


def reward_names(config: AlignmentRunConfig) -> list[str]:
    """The reward models that results use if they are trained: the one that gives rewards and selects, and the one that judges."""
    if not (selects(config) or aligns(config)):
        return []
    first = selecting_name(config) if selects(config) else rewarding_name(config)
    return list(dict.fromkeys(name for name in (first, judging_name(config)) if name is not None))
