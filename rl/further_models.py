"""The models that stages after training leave behind, as values that results can measure beside the others."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from onerec.artefacts import Stage, key_of
from onerec.data.split import Cases
from onerec.decode.recommend import GeneratorRecommender
from onerec.further import JUDGED, FurtherModel, Judge, MakeLists
from onerec.pipeline import Run
from onerec.reward_config import RewardConfig
from rl.align import align_stage, load_aligned
from rl.align_rewards import judging_section, load_judge, rewarding_section
from rl.prompts import Prompts
from rl.reward_model import reward_stage
from rl.rewards.preference_score import PreferenceScore
from rl.rsft_stage import TRAINING_FILE, alignment_start, load_rsft, rsft_stage
from rl.selection import WEIGHT_FILE, fit_reward_selection, load_reward_selection, weight_stage


def rsft_model(run: Run) -> FurtherModel:
    """The generator after RSFT, its beam as it is."""
    text, behind = "the generator after RSFT, constrained beam search", [run.generator_stage, rsft_stage(run)]
    return _generator_model(run, "OneRec, RSFT", text, behind, lambda: load_rsft(run))


def aligned_model(run: Run) -> FurtherModel:
    """The aligned generator, its beam as it is."""
    objective = run.config.align.objective
    text = f"the generator after alignment ({objective}), constrained beam search"
    behind = stages_behind_alignment(run)
    return _generator_model(run, "OneRec, aligned", text, behind, lambda: load_aligned(run, objective))


def reward_selection_model(run: Run, section: RewardConfig, aligned: Stage | None = None) -> FurtherModel:
    """The best of a beam by a reward model. Fits their weight where it is not fitted yet.

    Arguments and errors as of `rl.selection.fit_reward_selection`.
    """
    weight, trained = fit_reward_selection(run, section, aligned), reward_stage(run, section)
    fitted, width = weight_stage(run, section, aligned), section.selection.beam_width
    behind = [run.generator_stage] if aligned is None else stages_behind_alignment(run)
    chosen: dict[str, Any] = {"reward_model": trained.folder.name, "beam_width": width, "weight": weight}
    if section.selection.weight is None:
        chosen |= json.loads((fitted.folder / WEIGHT_FILE).read_text(encoding="utf-8"))
        behind.append(fitted)
    facts = {
        "parameters": sum(_training_facts(stage)["parameters"] for stage in (aligned or run.generator_stage, trained)),
        "train_seconds": _seconds([*behind, trained]),
        "reward_selection": chosen,
    }
    label, whose = ("OneRec", "the generator's") if aligned is None else ("OneRec, aligned,", "the aligned generator's")
    return FurtherModel(
        f"{label} + reward selection",
        f"{whose} beam of {width}, ranked by its probabilities and a reward model",
        facts,
        Stage(fitted.folder / "lists", key_of("lists", fitted.key, section.selection.weight, run.config.seed)),
        lambda: _select(run, section, aligned),
    )


def judge_of(run: Run) -> Judge | None:
    """The reward model that judges lists (`rl.align_rewards.judging_section`); None where there is none, or it is not trained."""
    section, score = judging_section(run), load_judge(run)
    if section is None or score is None:
        return None
    name = f"reward model of {section.half or 'all'} users"
    return Judge(name, lambda cases, items: mean_score(run, score, cases, items))


def mean_score(run: Run, score: PreferenceScore, cases: Cases, items_CK: np.ndarray) -> np.ndarray:
    """The mean P-Score of each case's first ten items, float64 `[C]`; 0 for an empty list."""
    top = torch.from_numpy(items_CK[:, :JUDGED].astype(np.int64))
    scores = score.score(Prompts(cases, run.readings(cases)), top.clamp(min=0)).double()
    listed = top >= 0
    mean: np.ndarray = ((scores * listed).sum(dim=1) / listed.sum(dim=1).clamp(min=1)).numpy()
    return mean


def stages_behind_alignment(run: Run) -> list[Stage]:
    """All training that led to the aligned generator: the run's, that of RSFT and of what rewarded, and alignment itself."""
    rewarding = rewarding_section(run)
    rewarded = [] if rewarding is None else [reward_stage(run, rewarding)]
    return [run.generator_stage, alignment_start(run), *rewarded, align_stage(run)]


def _generator_model(
    run: Run, label: str, description: str, behind: Sequence[Stage], load: Callable[[], GeneratorRecommender]
) -> FurtherModel:
    """A generator whose last training is the last of the stages behind it."""
    recommend, trained = run.config.recommend, behind[-1]
    key = key_of("lists", (trained.key, recommend.beam_width), recommend.exclude_seen, run.config.seed)
    return FurtherModel(
        label,
        description,
        {**_training_facts(trained), "train_seconds": _seconds(behind)},
        Stage(trained.folder / "lists", key),
        lambda: partial(run.recommend, load()),
    )


def _seconds(stages: Sequence[Stage]) -> float:
    """Of all of them together, each counted once."""
    return sum(stage.seconds for stage in {stage.folder: stage for stage in stages}.values())


def _select(run: Run, section: RewardConfig, aligned: Stage | None) -> MakeLists:
    recommender, exclude_seen = load_reward_selection(run, section, aligned), run.config.recommend.exclude_seen

    def make(cases: Cases, k: int) -> tuple[np.ndarray, np.ndarray]:
        return recommender.recommend_prompts(Prompts(cases, run.readings(cases)), k, exclude_seen)

    return make


def _training_facts(stage: Stage) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((stage.folder / TRAINING_FILE).read_text(encoding="utf-8"))
    return facts
