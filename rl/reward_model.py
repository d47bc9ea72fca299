"""The stage of a run that trains the reward model, and what held-out impressions say about it."""

import json
from typing import Any

import numpy as np
import torch
from torch import nn

from onerec.artefacts import Stage, key_of
from onerec.data.split import TEST, TRAIN, VALID, even_rows
from onerec.errors import UserError
from onerec.evaluate.breakdown import training_counts
from onerec.files import write_json
from onerec.pipeline import Run
from onerec.reward_config import RewardConfig
from onerec.train.runtime import set_threads
from onerec.train.trainer import Trainer
from rl.auc import auc_intervals, calibration, gauc_interval
from rl.impressions import (
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
from rl.preference_model import Judgement, PreferenceModel
from rl.rewards.preference_score import PreferenceScore
from tokenizer.item_encoder import ItemEncoder

MODEL_FOLDER, EVALUATION_FILE = "model", "evaluation.json"
CRITERION = "likelihood"
JUDGED_NEGATIVES = 20  # per event, where the next item is judged against drawn ones
VALIDATION_IMPRESSIONS = 20_000  # that each validation during training looks at, at most


def reward_section(run: Run) -> RewardConfig:
    """The run's settings of the reward model. Raises UserError where its config leaves it out."""
    if run.config.reward is None:
        raise UserError("the config says reward: null; give it a section reward (configs/demo.yaml explains its keys)")
    return run.config.reward


def reward_stage(run: Run, section: RewardConfig) -> Stage:
    """Where the reward model lies: `reward`, or `reward_first` and `reward_second` for those of half of the users."""
    name = "reward" if section.half is None else f"reward_{section.half}"
    settings = section.model_dump(exclude={"selection"})
    return Stage(run.folder / name, key_of("reward", run.ids_stage.key, settings, run.config.seed))


def evaluation_stage(run: Run, section: RewardConfig) -> Stage:
    """Where its figures lie: inside, so that they go when it is trained again."""
    trained = reward_stage(run, section)
    key = key_of("reward evaluation", trained.key, run.config.evaluate.bootstrap_samples)
    return Stage(trained.folder / "evaluation", key)


def train_reward_model(run: Run, section: RewardConfig) -> None:
    """Train the reward model on impressions before the test part, or go on where a killed run stopped."""
    stage = reward_stage(run, section)
    if stage.done:
        return
    objectives = choose_objectives(run.dataset, section.objectives)
    run.tokenize()
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
        torch.from_numpy(ItemEncoder.load(run.ids_stage.folder / "encoder").vectors_ND.copy()),
        label_rates(log, learnt_E, section.negatives),
        negative_weights(run.training[0], len(run.item_ids)),
    )
    with run.state.main_process_first():
        if run.state.is_main_process:
            stage.begin()
    places = even_places(judged_E, VALIDATION_IMPRESSIONS)
    trainer = Trainer(
        model,
        impression_windows(log, learnt_E, section.history_length),
        section.train,
        stage.folder,
        lambda trained: validation_figures(trained, log, places),
        seed=run.config.seed,
        label="reward",
        wandb_project=run.wandb_project,
        criterion=CRITERION,
    )
    position = trainer.run()
    if not run.state.is_main_process:
        return
    trained = trainer.bare_model.cpu().eval()
    assert isinstance(trained, PreferenceModel)
    trained.save(stage.folder / MODEL_FOLDER)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_seconds": position.seconds,
        "steps": position.step,
        "best_step": position.best_step,
        "impressions": int(learnt_E.sum()),
        "validation_impressions": int(judged_E.sum()),
    }
    write_json(stage.folder / "training.json", facts)
    (stage.folder / "checkpoint.pt").unlink(missing_ok=True)
    stage.finish(position.seconds)


def load_preference_score(run: Run, section: RewardConfig) -> PreferenceScore:
    """The trained reward model, ready to judge. Raises UserError where it is not trained with these settings."""
    stage = reward_stage(run, section)
    if not stage.done:
        raise UserError(f"{stage.folder}: no reward model with the data and config on file; run `onerec reward` first")
    model = PreferenceModel.load(stage.folder / MODEL_FOLDER).to(run.state.device)
    split = run.config.dataset.split
    log = read_impressions(run.dataset, run.sequences, split, model.objectives, model.vocabulary)
    return PreferenceScore(model, log, run.config.recommend.batch_size)


def learnt_and_judged(log: ImpressionLog, section: RewardConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which impressions train and which tell when to stop, boolean `[E]` each. Those of the test part are in neither.

    Both belong to the users of the half that is asked for. Of a share of them the validation part is not learnt but judged.

    Raises:
        UserError: nothing is left for one of the two, or no impression shows all objectives.
    """
    users_E = log.users()
    known_E = ~np.isnan(log.labels_EO).all(axis=1) & users_of_half(log.user_ids, section.half)[users_E]
    known_E &= np.arange(len(users_E)) > log.stream.offsets[users_E]  # something must stand before it
    judging_E = validating_users(log, section)[users_E]
    judged_E = known_E & (log.parts_E == VALID) & judging_E
    learnt_E = known_E & ((log.parts_E == TRAIN) | ((log.parts_E == VALID) & ~judging_E))
    if not learnt_E.any() or not judged_E.any():
        raise UserError(
            "the reward model: too few impressions with signals before the test part to train and to validate; "
            "a larger reward.validation_share takes more users for the latter"
        )
    if np.isnan(log.labels_EO[learnt_E]).any(axis=1).all():
        names = ", ".join(log.objectives)
        raise UserError(
            f"no impression before the test part records all of {names}; name those reward.objectives that are"
        )
    return learnt_E, judged_E


def validating_users(log: ImpressionLog, section: RewardConfig) -> np.ndarray:
    """The users whose validation impressions a reward model does not learn, boolean `[U]`: a share of its own, and all others."""
    validating_U: np.ndarray = user_draws(log.user_ids, "validation") < section.validation_share
    return validating_U | ~users_of_half(log.user_ids, section.half)


def even_places(chosen_E: np.ndarray, at_most: int) -> np.ndarray:
    """Places of chosen impressions, at most so many, spread evenly."""
    places = np.flatnonzero(chosen_E)
    return places[even_rows(len(places), at_most)]


def label_rates(log: ImpressionLog, learnt_E: np.ndarray, negatives: int) -> torch.Tensor:
    """How often each label is 1 where it is learnt, float32 `[O]`; an objective that is never recorded gets 0."""
    if log.objectives == [NEXT_ITEM]:
        return torch.tensor([1 / (1 + negatives)])
    labels_EO = log.labels_EO[learnt_E]
    counts_O = (~np.isnan(labels_EO)).sum(axis=0)
    return torch.from_numpy((np.nansum(labels_EO, axis=0) / np.maximum(counts_O, 1)).astype(np.float32))


def negative_weights(training_items: np.ndarray, items: int) -> torch.Tensor:
    """How often items are drawn as negatives: half of the time any, half of the time as often as they were taken."""
    counts_N = training_counts(training_items, items)
    return torch.from_numpy(counts_N / max(counts_N.sum(), 1) + 1 / items)


def judge_impressions(
    model: PreferenceModel, log: ImpressionLog, places: np.ndarray, negatives: int = JUDGED_NEGATIVES
) -> tuple[Judgement, np.ndarray]:
    """What the model thinks of impressions before they happened.

    Returns:
        the judgement of `[C, X]` candidates, and their labels float32 `[C, X, O]`. The first is the impression; where the next
        item is judged, drawn items stand behind it, the same ones every time.
    """
    users_C = np.searchsorted(log.stream.offsets, places, side="right") - 1
    candidates_CX, labels_CXO = log.stream.item_index[places][:, None], log.labels_EO[places][:, None]
    if model.objectives == [NEXT_ITEM]:
        draw, device = torch.Generator().manual_seed(0), model.vectors_ND.device
        nothing = torch.zeros(len(places), 1, dtype=torch.long)
        alone = ImpressionBatch(
            nothing,
            nothing[..., None],
            nothing,
            torch.from_numpy(candidates_CX.astype(np.int64)),
            nothing,
            torch.from_numpy(labels_CXO),
        )
        drawn, _, labels = model.with_negatives(alone.to(device), negatives, draw)
        candidates_CX, labels_CXO = drawn.cpu().numpy(), labels.cpu().numpy()
    return PreferenceScore(model, log).judge_places(log, users_C, places, candidates_CX), labels_CXO


def validation_figures(trained: nn.Module, log: ImpressionLog, places: np.ndarray) -> dict[str, float]:
    """The figures that training is stopped by: e to the minus loss per impression, towers and fusion together, and it alone."""
    assert isinstance(trained, PreferenceModel)
    judgement, labels_CXO = judge_impressions(trained, log, places, trained.config.negatives)
    device = trained.vectors_ND.device
    with torch.inference_mode():
        losses = trained.losses(judgement.to(device), torch.from_numpy(labels_CXO).to(device)) / len(places)
    return {CRITERION: float((-losses.sum()).exp()), "loss": float(losses.sum()), "fusion_loss": float(losses[-1])}


def evaluate_reward_model(run: Run, section: RewardConfig) -> dict[str, Any]:
    """Figures of the trained model on impressions of the test part, kept beside it.

    Returns:
        for "all" users, and for the "others" that it learnt nothing from where it learnt from half of them: per objective AUC and
        GAUC of its tower, of the fusion and of the hand-weighted sum of all towers, and the tower's calibration.
    """
    stage = evaluation_stage(run, section)
    if not stage.done:
        score = load_preference_score(run, section)
        stage.begin()
        set_threads(run.config.threads, section.width)
        users_E, first = score.log.users(), score.log.stream.offsets
        tested_E = (score.log.parts_E == TEST) & ~np.isnan(score.log.labels_EO).all(axis=1)
        places = np.flatnonzero(tested_E & (np.arange(len(users_E)) > first[users_E]))
        if not len(places):
            raise UserError(f"{run.dataset.folder}: no impression of the test part to judge the reward model by")
        judgement, labels_CXO = judge_impressions(score.model, score.log, places)
        own_U = users_of_half(score.log.user_ids, section.half)
        groups = {"all": np.ones(len(places), dtype=bool)}
        if section.half is not None:
            groups["others"] = ~own_U[users_E[places]]
        options = (run.config.evaluate.bootstrap_samples, run.config.seed)
        figures = {
            name: impression_figures(score.model, judgement, labels_CXO, users_E[places], chosen_C, *options)
            for name, chosen_C in groups.items()
        }
        content = {"half": section.half, "objectives": score.model.objectives, **figures}
        write_json(stage.folder / EVALUATION_FILE, content)
        stage.finish()
    figures_on_file: dict[str, Any] = json.loads((stage.folder / EVALUATION_FILE).read_text(encoding="utf-8"))
    return figures_on_file


def impression_figures(
    model: PreferenceModel,
    judgement: Judgement,
    labels_CXO: np.ndarray,
    users_C: np.ndarray,
    chosen_C: np.ndarray,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of some impressions; see `evaluate_reward_model`."""
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
