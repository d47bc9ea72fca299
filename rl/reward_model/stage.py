"""The stage that trains a reward model on impressions, and the stage that measures it on held-out impressions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onerec.data.impressions import (
    NEXT_ITEM,
    ImpressionBatch,
    ImpressionLog,
    choose_objectives,
    fit_impression_vocabulary,
    impression_windows,
    read_impressions,
    user_draws,
    users_of_half,
)
from onerec.data.split import TEST, TRAIN, VALID, even_rows
from onerec.errors import UserError
from onerec.evaluate.auc import auc_intervals, calibration, gauc_interval
from onerec.evaluate.breakdown import training_counts
from onerec.files import write_json
from onerec.run.run import Facts, Run, Stage
from onerec.run.stages.semantic_ids import item_encoder
from onerec.scorers.preference_config import Half, RewardConfig
from onerec.scorers.preference_model import Judgement, PreferenceModel
from onerec.scorers.preference_score import PreferenceScore
from onerec.train.runtime import set_threads
from onerec.train.trainer import Trainer
from rl.config.run import config_of
from rl.reward_model.choice import reward_section, stage_name, trained_names

MODEL_FOLDER, EVALUATION_FILE = "model", "evaluation.json"
CRITERION = "likelihood"
JUDGED_NEGATIVES = 20  # random items that the next item is compared with in evaluations
VALIDATION_IMPRESSIONS = 20_000  # of each validation during training, at most


class RewardStage(Stage):
    """Trains the reward model of all users (folder `reward`) or of half of them (`reward_first`, `reward_second`)."""

    kind = "reward"
    needs = ("semantic_ids",)
    processes = "all"

    def __init__(self, half: Half | None) -> None:
        self.half, self.name = half, stage_name(half)

    def section(self, run: Run) -> RewardConfig:
        """The settings of this reward model. Raises UserError if the config says reward: null."""
        return reward_section(config_of(run)).model_copy(update={"half": self.half})

    def asked(self, run: Run) -> bool:
        return self.name in trained_names(config_of(run))

    def check(self, run: Run) -> None:
        section = self.section(run)
        section.check_weights(choose_objectives(run.dataset, section.objectives))

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (self.section(run).model_dump(exclude={"selection"}), run.config.seed)

    def make(self, run: Run, folder: Path) -> Facts:
        section = self.section(run)
        run.say(
            f"reward model: training on {'all users' if self.half is None else f'the {self.half} half of the users'}"
        )
        objectives = choose_objectives(run.dataset, section.objectives)
        set_threads(run.config.threads, section.width, run.state.num_processes)
        torch.manual_seed(run.config.seed)
        split = run.config.dataset.split
        vocabulary = fit_impression_vocabulary(run.dataset, run.sequences, split)
        log = read_impressions(run.dataset, run.sequences, split, objectives, vocabulary)
        learnt_E, judged_E = learnt_and_judged(log, section)
        model = PreferenceModel(
            section,
            objectives,
            vocabulary,
            torch.from_numpy(item_encoder(run).vectors_ND.copy()),
            label_rates(log, learnt_E, section.negatives),
            negative_weights(run.training[0], len(run.item_ids)),
        )
        judged = np.flatnonzero(judged_E)
        places = judged[even_rows(len(judged), VALIDATION_IMPRESSIONS)]
        trainer = Trainer(
            model,
            impression_windows(log, learnt_E, section.history_length),
            section.train,
            folder,
            lambda trained: validation_figures(trained, log, places),
            seed=run.config.seed,
            label="reward",
            wandb_project=run.wandb_project,
            criterion=CRITERION,
        )
        position = trainer.run()
        trained = trainer.bare_model.cpu().eval()
        assert isinstance(trained, PreferenceModel)
        if run.state.is_main_process:
            trained.save(folder / MODEL_FOLDER)
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_seconds": position.seconds,
            "steps": position.step,
            "best_step": position.best_step,
            "impressions": int(learnt_E.sum()),
            "validation_impressions": int(judged_E.sum()),
        }


class RewardEvaluationStage(Stage):
    """Measures a reward model. The figures are stored inside its folder, so that retraining deletes them."""

    kind = "reward evaluation"

    def __init__(self, trained: RewardStage) -> None:
        self.trained, self.needs = trained, (trained.name,)
        self.name = f"{trained.name}/evaluation"

    def asked(self, run: Run) -> bool:
        return self.trained.asked(run)

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (run.config.evaluate.bootstrap_samples,)

    def make(self, run: Run, folder: Path) -> Facts:
        section, score = self.trained.section(run), load_preference_score(run, self.trained.name)
        set_threads(run.config.threads, section.width)
        write_json(folder / EVALUATION_FILE, evaluate_reward_model(run, section, score))
        return {}

    def figures(self, run: Run) -> dict[str, Any]:
        """The figures of `evaluate_reward_model`, measured now if needed."""
        path = run.make(self.name) / EVALUATION_FILE
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def load_preference_score(run: Run, name: str) -> PreferenceScore:
    """The trained reward model of a stage as a scorer. Raises UserError if it is not trained with the run's settings."""
    artefact = run.artefact(name)
    if not artefact.done:
        raise UserError(
            f"{artefact.folder}: no reward model with the data and config on file; run `onerec reward` first"
        )
    model = PreferenceModel.load(artefact.folder / MODEL_FOLDER).to(run.state.device)
    split = run.config.dataset.split
    log = read_impressions(run.dataset, run.sequences, split, model.objectives, model.vocabulary)
    return PreferenceScore(model, log, run.config.recommend.batch_size)


def learnt_and_judged(log: ImpressionLog, section: RewardConfig) -> tuple[np.ndarray, np.ndarray]:
    """The impressions to train on and those to validate on, boolean `[E]` each. The test part is in neither.

    Both come from the users of the section's half. A share of these users validates: their impressions of the validation part are
    not trained on.

    Raises:
        UserError: no impressions to train or to validate on, or no impression records all objectives.
    """
    users_E = log.users()
    known_E = ~np.isnan(log.labels_EO).all(axis=1) & users_of_half(log.user_ids, section.half)[users_E]
    known_E &= np.arange(len(users_E)) > log.stream.offsets[users_E]  # a user's first impression has no history
    judging_E = validating_users(log, section)[users_E]
    judged_E = known_E & (log.parts_E == VALID) & judging_E
    learnt_E = known_E & ((log.parts_E == TRAIN) | ((log.parts_E == VALID) & ~judging_E))
    if not learnt_E.any() or not judged_E.any():
        raise UserError(
            "the reward model: too few impressions with signals before the test part to train and to validate; "
            "a larger reward.validation_share keeps more users for validation"
        )
    if np.isnan(log.labels_EO[learnt_E]).any(axis=1).all():
        names = ", ".join(log.objectives)
        raise UserError(
            f"no impression before the test part records all of {names}; set reward.objectives to signals that are recorded"
        )
    return learnt_E, judged_E


def validating_users(log: ImpressionLog, section: RewardConfig) -> np.ndarray:
    """The users whose validation part is not learnt from, boolean `[U]`: a share of the model's users, and all other users."""
    validating_U: np.ndarray = user_draws(log.user_ids, "validation") < section.validation_share
    return validating_U | ~users_of_half(log.user_ids, section.half)


def label_rates(log: ImpressionLog, learnt_E: np.ndarray, negatives: int) -> torch.Tensor:
    """The share of ones among each objective's training labels, float32 `[O]`; 0 for an objective without labels."""
    if log.objectives == [NEXT_ITEM]:
        return torch.tensor([1 / (1 + negatives)])
    labels_EO = log.labels_EO[learnt_E]
    counts_O = (~np.isnan(labels_EO)).sum(axis=0)
    return torch.from_numpy((np.nansum(labels_EO, axis=0) / np.maximum(counts_O, 1)).astype(np.float32))


def negative_weights(training_items: np.ndarray, items: int) -> torch.Tensor:
    """Unnormalised weights to draw negatives with: half uniform, half in proportion to training events."""
    counts_N = training_counts(training_items, items)
    return torch.from_numpy(counts_N / max(counts_N.sum(), 1) + 1 / items)


def judge_impressions(
    model: PreferenceModel, log: ImpressionLog, places: np.ndarray, negatives: int = JUDGED_NEGATIVES
) -> tuple[Judgement, np.ndarray]:
    """The model's scores of impressions, each with the history before it.

    Args:
        places: of the impressions in the log, `[C]`.
        negatives: random items per impression, where the objective is the next item.

    Returns:
        the judgement of `[C, X]` candidates, and their labels float32 `[C, X, O]`. The first candidate is the impression. Where
        the objective is the next item, random items follow, the same ones in every call.
    """
    users_C = np.searchsorted(log.stream.offsets, places, side="right") - 1
    candidates_CX, labels_CXO = log.stream.item_index[places][:, None], log.labels_EO[places][:, None]
    if model.objectives == [NEXT_ITEM]:
        draw, device = torch.Generator().manual_seed(0), model.vectors_ND.device
        nothing = torch.zeros(len(places), 1, dtype=torch.long)
        items_CX = torch.from_numpy(candidates_CX.astype(np.int64))
        alone = ImpressionBatch(nothing, nothing[..., None], nothing, items_CX, nothing, torch.from_numpy(labels_CXO))
        drawn, _, labels = model.with_negatives(alone.to(device), negatives, draw)
        candidates_CX, labels_CXO = drawn.cpu().numpy(), labels.cpu().numpy()
    return PreferenceScore(model, log).judge_places(log, users_C, places, candidates_CX), labels_CXO


def validation_figures(trained: nn.Module, log: ImpressionLog, places: np.ndarray) -> dict[str, float]:
    """Figures of a validation: "likelihood", e to the minus mean loss, which early stopping maximises, and the losses."""
    assert isinstance(trained, PreferenceModel)
    judgement, labels_CXO = judge_impressions(trained, log, places, trained.config.negatives)
    device = trained.vectors_ND.device
    with torch.inference_mode():
        losses = trained.losses(judgement.to(device), torch.from_numpy(labels_CXO).to(device)) / len(places)
    return {CRITERION: float((-losses.sum()).exp()), "loss": float(losses.sum()), "fusion_loss": float(losses[-1])}


def evaluate_reward_model(run: Run, section: RewardConfig, score: PreferenceScore) -> dict[str, Any]:
    """Figures of a trained reward model on impressions of the test part.

    Returns:
        figures for "all" users. For a reward model of half of the users also for the "others", from whom it learnt nothing. Per
        objective: AUC and GAUC of its tower, of the fusion and of the weighted sum of all towers, and the tower's calibration.
    """
    users_E, first = score.log.users(), score.log.stream.offsets
    tested_E = (score.log.parts_E == TEST) & ~np.isnan(score.log.labels_EO).all(axis=1)
    places = np.flatnonzero(tested_E & (np.arange(len(users_E)) > first[users_E]))
    if not len(places):
        raise UserError(f"{run.dataset.folder}: the test part has no impressions to measure the reward model on")
    judgement, labels_CXO = judge_impressions(score.model, score.log, places)
    groups = {"all": np.ones(len(places), dtype=bool)}
    if section.half is not None:
        groups["others"] = ~users_of_half(score.log.user_ids, section.half)[users_E[places]]
    options = (run.config.evaluate.bootstrap_samples, run.config.seed)
    figures = {
        name: impression_figures(score.model, judgement, labels_CXO, users_E[places], chosen_C, *options)
        for name, chosen_C in groups.items()
    }
    return {"half": section.half, "objectives": score.model.objectives, **figures}


def impression_figures(
    model: PreferenceModel,
    judgement: Judgement,
    labels_CXO: np.ndarray,
    users_C: np.ndarray,
    chosen_C: np.ndarray,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of the chosen impressions; see `evaluate_reward_model`."""
    probabilities_CXO = judgement.objectives_BXO[chosen_C].sigmoid().double()
    fused_CX, summed_CX = judgement.score_BX[chosen_C].double().numpy(), model.weighted(probabilities_CXO).numpy()
    users_CX = np.broadcast_to(users_C[chosen_C, None], fused_CX.shape)
    figures: dict[str, Any] = {"impressions": int(chosen_C.sum()), "users": len(np.unique(users_C[chosen_C]))}
    weights_O = model.fusion_weights().tolist()
    for place, name in enumerate(model.objectives):
        labels_CX = labels_CXO[chosen_C][..., place]
        known = ~np.isnan(labels_CX)
        if not known.any():
            continue
        labels, users = labels_CX[known].astype(np.float64), users_CX[known]
        tower, fused, summed = probabilities_CXO[..., place].numpy()[known], fused_CX[known], summed_CX[known]
        scores = {"tower": tower, "fusion": fused, "sum": summed}
        figures[name] = {
            "weight": weights_O[place],
            "positives": int(labels.sum()),
            "auc": auc_intervals(labels, scores, users, samples, seed, [("fusion", "sum")]),
            "gauc": {key: gauc_interval(labels, score, users, samples, seed) for key, score in scores.items()},
            "calibration": calibration(labels, tower),
        }
    return figures
