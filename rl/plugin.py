"""The config sections and stages that this package adds to runs, as an entry point of `onerec.plugins`.

The stages follow the Technical Report (arXiv 2506.13695): next-code training, RSFT, alignment with a reward model, and selection
of the best generations at serving time.
"""

from collections.abc import Sequence
from typing import Any

from onerec.errors import UserError
from onerec.run.config import RunConfig
from onerec.run.plugins import Plugin
from onerec.run.run import Run, Stage
from onerec.run.stages.generator import GeneratorStage
from onerec.scorers.preference_config import Half
from rl.alignment.stage import AlignStage
from rl.config.run import AlignmentRunConfig, config_of
from rl.reward_model.choice import reward_names, selecting_name
from rl.reward_model.judge import judge_of
from rl.reward_model.selection import RewardSelectionStage
from rl.reward_model.stage import RewardEvaluationStage, RewardStage
from rl.rsft.stage import RsftStage

HALVES: tuple[Half | None, ...] = (None, "first", "second")


def stages(config: RunConfig) -> Sequence[Stage]:
    """The stages that a config may ask for."""
    assert isinstance(config, AlignmentRunConfig)
    rewards = [RewardStage(half) for half in HALVES]
    aligned = AlignStage(config)
    made: list[Stage] = [RsftStage(), *rewards, *(RewardEvaluationStage(reward) for reward in rewards), aligned]
    if config.reward is None:
        return made
    selecting = next(reward for reward in rewards if reward.name == selecting_name(config))
    from_generator = ("onerec_reward_selection", "OneRec", "the generator's")
    from_aligned = ("onerec_aligned_selection", "OneRec aligned", "the aligned generator's")
    made.append(RewardSelectionStage(selecting, (GeneratorStage.name,), *from_generator))
    made.append(RewardSelectionStage(selecting, aligned.behind, *from_aligned))
    return made


def check(run: Run) -> None:
    """Refuse stages in `after_training` that need a section which the config sets to null. Raises UserError."""
    config = config_of(run)
    asked = config.after_training
    if "rsft" in asked and config.rsft is None:
        raise UserError("after_training names rsft, but the config says rsft: null; add a section rsft")
    if "reward" in asked and config.reward is None:
        raise UserError("after_training names reward, but the config says reward: null; add a section reward")
    if "align" in asked and config.reward is None and config.align.rewards.p_score:
        raise UserError(
            "after_training names align, and align.rewards.p_score needs a reward model, but the config says reward: null; "
            "add a section reward, or align by rules: align.rewards.p_score=0 and a weight for hit or rank"
        )


def results(run: Run) -> dict[str, Any]:
    """Figures of the trained reward models, for `results.json`."""
    evaluations = [run.stages[f"{name}/evaluation"] for name in reward_names(config_of(run))]
    return {
        "reward_models": {
            stage.trained.name: stage.figures(run)
            for stage in evaluations
            if isinstance(stage, RewardEvaluationStage) and run.artefact(stage.trained.name).done
        }
    }


PLUGIN = Plugin(config=AlignmentRunConfig, stages=stages, check=check, judge=judge_of, results=results)
