"""The stages after training that `onerec run` does: RSFT, reward models, alignment, and selection by the reward model.

The Technical Report's order (arXiv 2506.13695): next-code training, RSFT, alignment with a reward model, and at serving time the
best of what is generated.
"""

from onerec.artefacts import Stage
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
    asked, align = run.config.after_training, run.config.align
    if "align" in asked and run.state.num_processes > 1:
        raise UserError(
            "after_training names align, which runs in one process; leave it out here (after_training=[]), and start the same "
            "command without accelerate launch when training is done"
        )
    section = run.config.reward
    if section is not None and ("reward" in asked or ("align" in asked and align.rewards.p_score)):
        choose_objectives(run.dataset, section.objectives)
    if "align" in asked and align.scenario is not None:
        class_of_items(run.dataset, align.scenario.column, align.scenario.value)


def train_stages(run: Run) -> None:
    """Train what the config names under `after_training`, or go on where a killed run stopped; what is done is skipped.

    Raises:
        UserError: as each stage's own command does.
    """
    asked = run.config.after_training
    if "rsft" in asked:
        train_rsft(run)
    if "reward" in asked:
        for section in reward_sections(run):
            train_where_missing(run, section)
    if "align" in asked:
        align_generator(run)


def reward_sections(run: Run) -> list[RewardConfig]:
    """The reward models that the stages use: the one that rewards and selects, and the one that judges, if they are two."""
    asked = run.config.after_training
    first = selecting_section(run) if "reward" in asked else rewarding_section(run) if "align" in asked else None
    judging = judging_section(run) if asked else None
    sections = [section for section in (first, judging) if section is not None]
    return sections[:1] if len({section.half for section in sections}) == 1 else sections


def further_of(run: Run) -> Further:
    """The models that those stages left, for results; what is not trained with the config on file is left out.

    Weights of selection that are not fitted yet are fitted.
    """
    asked = run.config.after_training
    rewards = [section for section in reward_sections(run) if reward_stage(run, section).done]
    aligned = align_stage(run) if "align" in asked and align_stage(run).done else None
    models: dict[str, FurtherModel] = {}
    stages: list[Stage] = [
        stage for section in rewards for stage in (reward_stage(run, section), evaluation_stage(run, section))
    ]
    if "rsft" in asked and rsft_stage(run).done:
        models["onerec_rsft"] = rsft_model(run)
        stages.append(rsft_stage(run))
    if aligned is not None:
        models["onerec_aligned"] = aligned_model(run)
        stages.append(aligned)
    if "reward" in asked and (section := selecting_section(run)) in rewards:
        proposing = {"onerec_reward_selection": None, "onerec_aligned_selection": aligned}
        for name, stage in proposing.items():
            if name == "onerec_reward_selection" or stage is not None:
                models[name] = reward_selection_model(run, section, stage)
                stages += [weight_stage(run, section, stage)] if section.selection.weight is None else []
    figures = {reward_stage(run, section).folder.name: evaluate_reward_model(run, section) for section in rewards}
    # Who selects does not judge; where one reward model of all users is trained, it selects.
    judge = None if "reward" in asked and len(rewards) < 2 else judge_of(run)
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
