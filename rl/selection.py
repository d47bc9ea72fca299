"""Reward-model selection: generate K items by beam search, list those that the reward model ranks first.

By the OneRec Technical Report's own figures (arXiv 2506.13695, section 4) generation alone is about as good as the cascade it
replaces, and selecting from its beam is what wins.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onerec.artefacts import Stage, key_of
from onerec.data.split import Cases
from onerec.data.stream import Readings
from onerec.decode.recommend import GeneratorRecommender
from onerec.errors import UserError
from onerec.evaluate.ranking import quick_figures
from onerec.files import write_json
from onerec.pipeline import Run
from onerec.reward_config import RewardConfig
from onerec.select.recommend import best
from onerec.train.runtime import set_threads
from rl.prompts import Prompts
from rl.reward_model import load_preference_score, reward_stage, validating_users
from rl.rewards.preference_score import PreferenceScore

# Odds of the score against the generator are 0, then 1/4, 1/2 .. 64, then the score alone.
WEIGHTS = (0.0, *(odds / (1 + odds) for odds in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)), 1.0)
WEIGHT_FILE = "weight.json"


@dataclass
class RewardSelectingRecommender:
    """Recommend the best of a beam by `(1 - weight) x log-probability + weight x log P-Score`, both in nats.

    Attributes:
        generator: its beam width is the number of proposals, K.
        score: of any item for any user.
        weight: from 0, the generator's own order, to 1, the score's.
    """

    generator: GeneratorRecommender
    score: PreferenceScore
    weight: float

    def recommend(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: Readings | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best proposals of each history; arguments and results as in `GeneratorRecommender.recommend`.

        Scores are the mixture above. Without readings the reward model knows the items of a history and no signals.
        """
        count = len(history_offsets) - 1
        nobody = np.zeros(count, np.int32)
        cases = Cases(nobody, history_offsets, history_items, nobody)
        return self.recommend_prompts(Prompts(cases, readings), k, exclude_seen)

    def recommend_prompts(self, prompts: Prompts, k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """The same for prompts, whose cases may name the event that was taken next, and so all that was known before it."""
        items_CK, log_probabilities_CK, log_scores_CK = self.judged_proposals(prompts, exclude_seen)
        return best(items_CK, mixture(log_probabilities_CK, log_scores_CK, self.weight), k)

    def judged_proposals(self, prompts: Prompts, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The beam of each prompt in the generator's order: items int32 `[C, K]`, -1 where there are no more, and float32
        log-probabilities and log P-Scores, both -inf there."""
        cases, width = prompts.cases, self.generator.beam_width
        asked = (cases.history_items, cases.history_offsets, width, exclude_seen, prompts.readings)
        items_CK, log_probabilities_CK = self.generator.recommend(*asked)
        scores_CK = self.score.score(prompts, torch.from_numpy(items_CK.astype(np.int64)).clamp(min=0)).cpu().numpy()
        log_scores_CK = np.log(np.maximum(scores_CK, np.finfo(np.float32).tiny))
        return items_CK, log_probabilities_CK, np.where(items_CK >= 0, log_scores_CK, -np.inf).astype(np.float32)


def mixture(log_probabilities_CK: np.ndarray, log_scores_CK: np.ndarray, weight: float) -> np.ndarray:
    """`(1 - weight) x log-probability + weight x log score`, float32 `[C, K]`; -inf where there is no item."""
    found_CK = np.isfinite(log_probabilities_CK)
    mixed_CK = (1 - weight) * np.where(found_CK, log_probabilities_CK, 0) + weight * np.where(
        found_CK, log_scores_CK, 0
    )
    return np.where(found_CK, mixed_CK, -np.inf).astype(np.float32)


def fit_weight(
    recommender: RewardSelectingRecommender, prompts: Prompts, exclude_seen: bool, weights: Sequence[float] = WEIGHTS
) -> tuple[float, list[dict[str, float]]]:
    """The weight with the highest NDCG@10 of what users took next; of equal ones the smallest.

    Args:
        recommender: whose generator and score are mixed; its own weight means nothing.
        prompts: cases that neither the generator nor the reward model has learnt from.

    Returns:
        the weight, and for each that was tried "weight", "ndcg@10" and "recall@10".
    """
    items_CK, log_probabilities_CK, log_scores_CK = recommender.judged_proposals(prompts, exclude_seen)
    rows = []
    for weight in weights:
        lists, _ = best(items_CK, mixture(log_probabilities_CK, log_scores_CK, weight), 10)
        rows.append({"weight": weight, **quick_figures(lists, prompts.cases)})
    chosen = max(rows, key=lambda row: (row["ndcg@10"], -row["weight"]))
    return chosen["weight"], rows


def weight_stage(run: Run, section: RewardConfig, aligned: Stage | None = None) -> Stage:
    """Where the weight lies that is fitted for a reward model and the generator that proposes: with whatever came last."""
    proposing, trained = aligned or run.generator_stage, reward_stage(run, section)
    inputs = (trained.key, proposing.key, section.selection.beam_width)
    key = key_of("reward selection", *inputs, run.config.recommend.exclude_seen)
    return Stage(
        trained.folder / "selection" if aligned is None else aligned.folder / f"selection_{trained.folder.name}", key
    )


def fit_reward_selection(run: Run, section: RewardConfig, aligned: Stage | None = None) -> float:
    """The weight of the reward model against the generator: the one that is given, or fitted where it is not yet.

    It is fitted on validation cases of users whose validation events the reward model has not learnt.

    Args:
        section: which reward model.
        aligned: where an aligned generator lies that proposes in place of the trained one (`rl.align.align_stage`).

    Raises:
        UserError: the reward model is not trained, or there are no such cases.
    """
    if section.selection.weight is not None:
        return section.selection.weight
    stage = weight_stage(run, section, aligned)
    if not stage.done:
        recommender = _recommender(run, section, aligned, 0.0)
        stage.begin()
        set_threads(run.config.threads, run.config.generator.width)
        write_json(stage.folder / WEIGHT_FILE, _fitted(run, section, recommender))
        stage.finish()
    return float(json.loads((stage.folder / WEIGHT_FILE).read_text(encoding="utf-8"))["weight"])


def load_reward_selection(run: Run, section: RewardConfig, aligned: Stage | None = None) -> RewardSelectingRecommender:
    """The generator with selection by the trained reward model. Arguments and errors as of `fit_reward_selection`."""
    return _recommender(run, section, aligned, fit_reward_selection(run, section, aligned))


def _recommender(run: Run, section: RewardConfig, aligned: Stage | None, weight: float) -> RewardSelectingRecommender:
    generator = run.load_generator((aligned or run.generator_stage).folder.name)
    generator.beam_width = section.selection.beam_width
    return RewardSelectingRecommender(generator, load_preference_score(run, section), weight)


def _fitted(run: Run, section: RewardConfig, recommender: RewardSelectingRecommender) -> dict[str, Any]:
    cases = run.cases("valid")
    cases = cases.pick(np.flatnonzero(validating_users(recommender.score.log, section)[cases.user_index]))
    if not len(cases):
        raise UserError(
            "reward selection: no validation case of a user that the reward model did not learn from; "
            "set reward.selection.weight, or a larger reward.validation_share"
        )
    weight, tried = fit_weight(recommender, Prompts(cases, run.readings(cases)), run.config.recommend.exclude_seen)
    return {"weight": weight, "cases": len(cases), "tried": tried}
