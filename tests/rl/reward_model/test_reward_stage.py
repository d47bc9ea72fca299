"""Training the reward model: it learns a planted preference, nothing from the test part, and resumes after a kill."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import polars as pl
import pytest
import torch
from command_line import configured, file_states, onerec
from reward_data import ITEMS, QUICK, SIGNALS, planted_events, quick_run, write_planted

from onerec.cli import main
from onerec.data.impressions import NEXT_ITEM, users_of_half
from onerec.data.split import TEST
from onerec.run.run import Run
from rl.reward_model import stage as module
from rl.reward_model.stage import (
    RewardEvaluationStage,
    RewardStage,
    learnt_and_judged,
    load_preference_score,
    negative_weights,
)

USERS = 150


@pytest.fixture(scope="module")
def trained(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = quick_run(tmp_path_factory.mktemp("trained"), planted)
    run.make("reward")
    return run


def weights_of(run: Run, name: str = "reward") -> bytes:
    return (run.folder / name / "model" / "model.safetensors").read_bytes()


def figures_of(run: Run, name: str = "reward") -> dict[str, Any]:
    stage = run.stages[f"{name}/evaluation"]
    assert isinstance(stage, RewardEvaluationStage)
    return stage.figures(run)


def test_a_planted_preference_is_learnt(trained: Run) -> None:
    """Knowing every taste gives .8 for `long` within and across users; .76 is above .5 by dozens of standard errors."""
    figures = figures_of(trained)
    assert figures["objectives"] == SIGNALS
    assert figures["all"]["impressions"] == USERS * 6
    long = figures["all"]["long"]
    for key, least in (("auc", 0.7), ("gauc", 0.68)):
        assert long[key]["tower"]["value"] > least
        assert long[key]["tower"]["low"] > 0.6
        assert long[key]["fusion"]["value"] > least - 0.02
    assert figures["all"]["like"]["auc"]["tower"]["value"] > 0.7
    assert figures["all"]["click"]["auc"]["tower"]["value"] > 0.65  # learnt from the validation period alone
    assert 0.8 < long["calibration"]["ratio"] < 1.2
    assert set(figures["all"]["long"]["auc"]) == {"tower", "fusion", "sum", "fusion - sum"}


def test_it_prefers_the_items_that_users_prefer(trained: Run) -> None:
    requests = trained.requests("test")
    everything = np.broadcast_to(np.arange(ITEMS), (len(requests), ITEMS))
    scores = load_preference_score(trained, "reward").p_scores(requests, everything)
    names = trained.sequences.user_ids.to_list()
    likes_first = np.array([int(names[user][1:]) % 2 == 0 for user in requests.users_C])
    difference = scores[:, :20].mean(axis=1) - scores[:, 20:].mean(axis=1)
    assert ((difference > 0) == likes_first).mean() > 0.9


def test_what_is_done_is_not_done_again(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    figures_of(trained)
    monkeypatch.setattr(module, "read_impressions", Mock(side_effect=AssertionError("done twice")))
    folder = trained.make("reward")
    assert figures_of(trained)["objectives"] == SIGNALS
    assert not (folder / "checkpoint.pt").exists()
    assert {"model", "evaluation", "metrics.jsonl", "training.json"} <= {path.name for path in folder.iterdir()}


def test_the_test_part_never_enters_training(trained: Run, planted: Path, tmp_path: Path) -> None:
    """Other items and other signals there; the weights are the same to the last bit."""
    events = planted_events(USERS)
    tested = pl.col("period") == "test"
    other = events.with_columns(
        pl.when(tested).then((pl.col("item") + 7) % 40).otherwise("item").alias("item"),
        *(pl.when(tested).then(1 - pl.col(name)).otherwise(name).alias(name) for name in SIGNALS),
    )
    write_planted(tmp_path / "other", other)
    run = quick_run(tmp_path, tmp_path / "other")
    run.make("reward")
    assert weights_of(run) == weights_of(trained)


def test_validation_impressions_are_not_learnt_from(trained: Run) -> None:
    score = load_preference_score(trained, "reward")
    learnt, judged = learnt_and_judged(score.log, RewardStage(None).section(trained))
    assert not (learnt & judged).any()
    assert not (score.log.parts_E[learnt | judged] == TEST).any()
    assert 0.01 < judged.sum() / (learnt | judged).sum() < 0.1  # a tenth of the users, 6 of 19 impressions


@pytest.mark.parametrize("signals", [SIGNALS, ["long"]], ids=["signals", "next item"])
def test_a_killed_training_ends_with_the_same_weights(
    signals: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where negatives are drawn."""
    write_planted(tmp_path / "data", planted_events(60), signals)
    whole = quick_run(tmp_path / "whole", tmp_path / "data", "reward.train.epochs=3")
    whole.make("reward")
    with monkeypatch.context() as patch:
        first = module.validation_figures
        patch.setattr(module, "validation_figures", Mock(side_effect=[DEFAULT, KeyboardInterrupt], wraps=first))
        killed = quick_run(tmp_path / "killed", tmp_path / "data", "reward.train.epochs=3")
        with pytest.raises(KeyboardInterrupt):
            killed.make("reward")
    again = quick_run(tmp_path / "killed", tmp_path / "data", "reward.train.epochs=3")
    again.make("reward")
    assert weights_of(again) == weights_of(whole)
    lines = [(run.folder / "reward" / "metrics.jsonl").read_text().count("\n") for run in (whole, again)]
    assert lines[0] == lines[1] > 3


def test_with_one_signal_it_scores_the_next_item(tmp_path: Path) -> None:
    write_planted(tmp_path / "data", planted_events(USERS), ["long"])
    figures = figures_of(quick_run(tmp_path, tmp_path / "data"))
    assert figures["objectives"] == [NEXT_ITEM]
    # Of what is taken eight in ten are of the liked kind, of what is drawn half: knowing every taste gives .65.
    assert figures["all"][NEXT_ITEM]["gauc"]["tower"]["value"] > 0.58
    assert figures["all"][NEXT_ITEM]["calibration"]["observed"] == pytest.approx(1 / 21, abs=0.003)


def test_each_half_of_the_users_has_its_own_model(planted: Path, tmp_path: Path) -> None:
    run = quick_run(tmp_path, planted, "reward.train.epochs=1")
    for name in ("reward_first", "reward_second"):
        run.make(name)
    assert {path.name for path in run.folder.glob("reward*")} == {"reward_first", "reward_second"}
    assert weights_of(run, "reward_first") != weights_of(run, "reward_second")
    score = load_preference_score(run, "reward_first")
    mine = users_of_half(score.log.user_ids, "first")
    assert figures_of(run, "reward_first")["others"]["users"] == (~mine).sum()
    learnt, judged = learnt_and_judged(score.log, RewardStage("first").section(run))
    assert mine[score.log.users()[learnt | judged]].all()


def test_negatives_are_half_popular_half_uniform() -> None:
    weights = negative_weights(np.array([1, 1, 2]), 4)
    torch.testing.assert_close(
        weights / weights.sum(), torch.tensor([1 / 8, 11 / 24, 7 / 24, 1 / 8], dtype=torch.float64)
    )


def test_the_command_trains_measures_and_prints(planted: Path, tmp_path: Path) -> None:
    command = ["reward", *configured("planted", planted, *QUICK, "reward.train.epochs=1"), "--runs", "runs"]
    done = onerec(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "reward model, test impressions: 900 of 150 users" in done.stdout
    for name in SIGNALS:
        assert any(line.strip().startswith(name) for line in done.stdout.splitlines())
    folder = tmp_path / "runs" / "planted" / "reward"
    assert {"config.json", "model.safetensors"} <= {path.name for path in (folder / "model").iterdir()}
    figures = json.loads((folder / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    assert figures["objectives"] == SIGNALS


def test_a_refused_config_leaves_the_trained_model_alone(
    trained: Run, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_states(trained.folder / "reward")
    for override, words in (
        ("reward=null", "reward: null"),
        ("reward.objectives=[clik]", '"clik" is no signal'),
        ("reward.width=0", "reward.width"),
        ("reward.half=third", "reward.half"),
    ):
        typed = [*configured("planted", planted, *QUICK, override), "--runs", str(trained.folder.parent)]
        assert main(["reward", *typed]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert message.count("\n") == 1
    assert file_states(trained.folder / "reward") == before
