"""Selection by reward: a cascade of beam search, which finds K candidates, and the reward model, which re-ranks them.

In the OneRec Technical Report's figures (arXiv 2506.13695, section 4), generation alone is about as good as the cascade that it
replaces. The gain comes from selecting from its beam.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onerec.data.candidates import Candidates, best_of
from onerec.data.requests import Requests
from onerec.errors import UserError
from onerec.evaluate.ranking import quick_figures
from onerec.files import write_json
from onerec.recommenders.cascade import Cascade
from onerec.run.models import Model
from onerec.run.run import Facts, Run, Stage
from onerec.run.stages.generator import load_generator, seconds_of, training_facts
from onerec.scorers.mixture import Mixture, mixture
from onerec.scorers.preference_config import RewardConfig
from onerec.scorers.preference_score import PreferenceScore
from onerec.train.runtime import set_threads
from rl.config.run import config_of
from rl.reward_model.choice import reward_section, selects
from rl.reward_model.stage import RewardStage, load_preference_score, validating_users

# Odds of the P-Score against the generator: 0, then 1/4, 1/2 ... 64, then the P-Score alone.
WEIGHTS = (0.0, *(odds / (1 + odds) for odds in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)), 1.0)
WEIGHT_FILE = "weight.json"
UNTOUCHED_TEST = "No stage after training and no reward model learns from the test part."


class RewardSelectionStage(Stage):
    """Fits the weight of a reward model against the generator that it selects from.

    The weight is fitted on validation requests of users whose validation events the reward model did not learn from. It is stored
    in the folder of the stage that was trained last, so that retraining deletes it.

    Args:
        trained: the stage of the reward model.
        behind: the stages that trained the generator, in their order; the last one holds it.
        model_name: of the cascade in results.
        label: of the generator, for readers.
        whose: the generator in the possessive, for readers.
    """

    kind = "reward selection"

    def __init__(self, trained: RewardStage, behind: tuple[str, ...], model_name: str, label: str, whose: str) -> None:
        self.trained, self.behind, self.generator_stage = trained, behind, behind[-1]
        self.model_name, self.label, self.whose = model_name, label, whose
        self.needs = (trained.name, self.generator_stage)
        plain = self.generator_stage == "generator"
        self.name = f"{trained.name}/selection" if plain else f"{self.generator_stage}/selection_{trained.name}"

    def asked(self, run: Run) -> bool:
        return selects(config_of(run)) and run.stages[self.generator_stage].asked(run)

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (self._section(run).selection.beam_width, run.config.recommend.exclude_seen)

    def make(self, run: Run, folder: Path) -> Facts:
        if self._section(run).selection.weight is None:
            set_threads(run.config.threads, run.config.generator.width)
            write_json(folder / WEIGHT_FILE, self._fitted(run))
        return {}

    def _section(self, run: Run) -> RewardConfig:
        return reward_section(config_of(run))

    def _fitted(self, run: Run) -> dict[str, Any]:
        score = load_preference_score(run, self.trained.name)
        requests = run.requests("valid")
        kept_U = validating_users(score.log, self.trained.section(run))
        requests = requests.pick(np.flatnonzero(kept_U[requests.users_C]))
        if not len(requests):
            raise UserError(
                "reward selection: the reward model learnt from every user with a validation request; "
                "set reward.selection.weight, or raise reward.validation_share"
            )
        width = self._section(run).selection.beam_width
        generator = load_generator(run, self.generator_stage, width)
        candidates = generator.recommend(requests, width, exclude_seen=run.config.recommend.exclude_seen)
        weight, tried = fit_weight(candidates, score, requests)
        return {"weight": weight, "cases": len(requests), "tried": tried}

    def weight(self, run: Run) -> float:
        """The weight of the reward model against the generator: the config's, or else the fitted one, fitted now if needed."""
        given = self._section(run).selection.weight
        if given is not None:
            return given
        return float(json.loads((run.make(self.name) / WEIGHT_FILE).read_text(encoding="utf-8"))["weight"])

    def load(self, run: Run) -> Cascade:
        """The cascade of the generator and the trained reward model."""
        width = self._section(run).selection.beam_width
        score = load_preference_score(run, self.trained.name)
        return Cascade(load_generator(run, self.generator_stage, width), width, Mixture(score, self.weight(run)))

    def models(self, run: Run) -> Iterable[Model]:
        trained, generator = run.artefact(self.trained.name), run.artefact(self.generator_stage)
        if not (trained.done and generator.done):
            return
        selection = self._section(run).selection

        def facts() -> dict[str, Any]:
            chosen: dict[str, Any] = {"reward_model": self.trained.name, "beam_width": selection.beam_width}
            chosen["weight"], behind = self.weight(run), [*self.behind, self.trained.name]
            if selection.weight is None:
                fitted = run.artefact(self.name).folder / WEIGHT_FILE
                chosen |= json.loads(fitted.read_text(encoding="utf-8"))
                behind.append(self.name)
            return {
                "parameters": sum(training_facts(one.folder)["parameters"] for one in (generator, trained)),
                "train_seconds": seconds_of(run, behind),
                "reward_selection": chosen,
            }

        yield Model(
            name=self.model_name,
            label=f"{self.label} + reward selection",
            description=f"{self.whose} beam of {selection.beam_width}, ranked by its probabilities and a reward model",
            own=True,
            key=(run.key(self.name), selection.weight),
            load=lambda: self.load(run),
            facts=facts,
            lists_folder=Path(self.name) / "lists",
        )

    def notes(self, run: Run) -> Iterable[str]:
        yield UNTOUCHED_TEST
        yield (
            "A reward model reads all impressions of a user with their signals, even where generator and baselines read only "
            "the items of positive events. Its weight against the generator was fitted on validation requests, so validation "
            "figures of reward selection are not held-out figures."
        )


def fit_weight(
    candidates: Candidates, score: PreferenceScore, requests: Requests, weights: Sequence[float] = WEIGHTS
) -> tuple[float, list[dict[str, float]]]:
    """The weight with the highest NDCG@10; among equal ones the smallest.

    Args:
        candidates: of the generator, with their log-probabilities.
        score: the reward model.
        requests: with targets that neither the generator nor the reward model learnt from.
        weights: to try.

    Returns:
        the weight; and "weight", "ndcg@10" and "recall@10" of each weight that was tried.
    """
    log_scores_CK = score.score(requests, candidates)
    rows = []
    for weight in weights:
        lists = best_of(candidates, mixture(candidates.scores_CK, log_scores_CK, weight), 10)
        rows.append({"weight": weight, **quick_figures(lists.items_CK, requests)})
    chosen = max(rows, key=lambda row: (row["ndcg@10"], -row["weight"]))
    return chosen["weight"], rows
