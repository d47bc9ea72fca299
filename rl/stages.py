"""The stages after training that `onerec run` does: RSFT, reward models, alignment, and selection by the reward model.

The Technical Report's order (arXiv 2506.13695): next-code training, RSFT, alignment with a reward model, and at serving time the
best of what is generated.
"""

from onerec.artefacts import Stage
from onerec.config import RunConfig
from onerec.errors import UserError
from onerec.further import Further, FurtherModel
from onerec.pipeline import Run
from onerec.reward_config import RewardConfig
from rl.align import align_generator, align_stage
from rl.align_rewards import judging_section, rewarding_section, selecting_section, train_where_missing
from rl.further_models import aligned_model, judge_of, reward_selection_model, rsft_model
from rl.impressions import choose_objectives
from rl.reward_model import evaluate_reward_model, evaluation_stage, reward_stage
from rl.rewards.scenario import class_of_items
from rl.rsft_stage import rsft_stage, train_rsft
from rl.selection import weight_stage


def check_stages(run: Run) -> None:
    """Refuse what would fail after hours of training. Raises UserError."""
    asked, config = run.config.after_training, run.config
    if "rsft" in asked and config.rsft is None:
        raise UserError("after_training names rsft, and the config says rsft: null; give it a section rsft")
    if "reward" in asked and config.reward is None:
        raise UserError("after_training names reward, and the config says reward: null; give it a section reward")
    if "align" in asked and not _aligns(config):
        raise UserError(
            "after_training names align with align.rewards.p_score, and the config says reward: null; "
            "give it a section reward, or align by rules: align.rewards.p_score=0 and a weight for hit or rank"
        )
    if "align" in asked and run.state.num_processes > 1:
        raise UserError(
            "after_training names align, which runs in one process; train with after_training=[], then start this command "
            "again without accelerate launch"
        )
    if config.reward is not None and (_selects(config) or (_aligns(config) and config.align.rewards.p_score)):
        choose_objectives(run.dataset, config.reward.objectives)
    if _aligns(config) and config.align.scenario is not None:
        class_of_items(run.dataset, config.align.scenario.column, config.align.scenario.value)


def train_stages(run: Run) -> None:
    """Train what the config names under `after_training`, or go on where a killed run stopped; what is done is skipped.

    Raises:
        UserError: as each stage's own command does.
    """
    if _trains_on(run.config):
        train_rsft(run)
    if _selects(run.config):
        for section in reward_sections(run):
            train_where_missing(run, section)
    if _aligns(run.config):
        align_generator(run)


def _trains_on(config: RunConfig) -> bool:
    """Whether RSFT is done: where it is named, and where alignment starts from it."""
    return config.rsft is not None and not {"rsft", "align"}.isdisjoint(config.after_training)


def _selects(config: RunConfig) -> bool:
    return "reward" in config.after_training and config.reward is not None


def _aligns(config: RunConfig) -> bool:
    return "align" in config.after_training and (config.reward is not None or not config.align.rewards.p_score)


def reward_sections(run: Run) -> list[RewardConfig]:
    """The reward models that the stages use: the one that rewards and selects, and the one that judges, if they are two."""
    config = run.config
    if not (_selects(config) or _aligns(config)):
        return []
    first = selecting_section(run) if _selects(config) else rewarding_section(run)
    sections = [section for section in (first, judging_section(run)) if section is not None]
    return sections[:1] if len({section.half for section in sections}) == 1 else sections


def further_of(run: Run) -> Further:
    """The models that those stages left, for results; what is not trained with the config on file is left out.

    Weights of selection that are not fitted yet are fitted.
    """
    config = run.config
    rewards = [section for section in reward_sections(run) if reward_stage(run, section).done]
    aligned = align_stage(run) if _aligns(config) and align_stage(run).done else None
    models: dict[str, FurtherModel] = {}
    stages: list[Stage] = [
        stage for section in rewards for stage in (reward_stage(run, section), evaluation_stage(run, section))
    ]
    if _trains_on(config) and rsft_stage(run).done:
        models["onerec_rsft"] = rsft_model(run)
        stages.append(rsft_stage(run))
    if aligned is not None:
        models["onerec_aligned"] = aligned_model(run)
        stages.append(aligned)
    if _selects(config) and (section := selecting_section(run)) in rewards:
        proposing: dict[str, Stage | None] = {"onerec_reward_selection": None}
        if aligned is not None:
            proposing["onerec_aligned_selection"] = aligned
        for name, stage in proposing.items():
            models[name] = reward_selection_model(run, section, stage)
            stages += [weight_stage(run, section, stage)] if section.selection.weight is None else []
    figures = {reward_stage(run, section).folder.name: evaluate_reward_model(run, section) for section in rewards}
    # Who selects does not judge; where one reward model of all users is trained, it selects.
    judge = None if _selects(config) and len(rewards) < 2 else judge_of(run)
    return Further(models, judge if models else None, figures, stages, _notes(run, models))


def _notes(run: Run, models: dict[str, FurtherModel]) -> list[str]:
    notes = []
    if models:
        notes.append("Of the test part no stage after training and no reward model learns anything.")
    if "onerec_reward_selection" in models:
        notes.append(
            "A reward model reads all impressions of a user with their signals, also where generator and baselines read the "
            "items of positive events. Its weight against the generator was fitted on validation cases, so that validation "
            "figures of reward selection are no held-out figures."
        )
    if "onerec_aligned" in models and run.config.align.rewards.p_score:
        notes.append(
            "The reward model that rewards has learnt validation events of most users, so validation figures of the aligned "
            "generator are no held-out figures; its test figures are."
        )
    return notes
