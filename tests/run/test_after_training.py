"""What `onerec run` does after training: reward models, alignment and selection by reward, measured beside everything else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import configured, file_states, results_of
from reward_data import QUICK, planted_events, quick_run, write_planted

from benchmarks.recall import as_results_file
from benchmarks.result_tables import shown_of
from benchmarks.seeds import combined
from onerec.cli import main
from onerec.errors import UserError
from onerec.run.lists import lists_of
from onerec.run.opening import complete
from onerec.run.results import judge_of
from onerec.run.run import Run
from onerec.run.stages.generator import load_generator
from rl.alignment.loop import AlignLoop
from rl.config.run import config_of
from rl.reward_model.choice import trained_names
from rl.reward_model.stage import EVALUATION_FILE

SETTINGS = (
    *QUICK,
    "baselines.sasrec=null",
    "baselines.content_knn=false",
    "selection.beam_width=50",
    "selection.new_items=0",
    "reward.selection.beam_width=20",
    # Of half of the users twenty epochs are where learning sets in, sooner or later by a processor's rounding.
    "reward.train.epochs=40",
    "reward.train.patience=40",
    "align.rollouts.group_size=8",
    "align.batch_size=16",
    "align.steps=8",
    "align.learning_rate=0.002",
    "align.checkpoint_every=3",
    "align.rollouts.exclude_seen=false",
)
ALL = "after_training=[reward, align]"
RULES = ("align.rewards.p_score=0", "align.rewards.hit=1")
OWN = ["onerec", "onerec_selection", "onerec_aligned", "onerec_reward_selection", "onerec_aligned_selection"]
OTHERS = ["item_knn", "popularity"]
ARTEFACTS = ("generator", "reward_first", "reward_second", "aligned_ecpo", "lists")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "data"
    write_planted(folder, planted_events(120))
    return folder


@pytest.fixture(scope="module")
def finished(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one that did everything."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(typed(planted, runs, ALL)) == 0
    return runs


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def typed(planted: Path, runs: Path, *overrides: str) -> list[str]:
    return ["run", *configured("planted", planted, *SETTINGS, *overrides), "--runs", str(runs)]


def states(runs: Path) -> dict[str, Any]:
    return {name: file_states(runs / "planted" / name) for name in ARTEFACTS}


def reopened(planted: Path, runs: Path, *overrides: str) -> Run:
    return quick_run(runs, planted, *SETTINGS, *overrides)


def untimed(results: dict[str, Any]) -> dict[str, Any]:
    """Figures without those of the clock."""
    return {name: {part: model[part] for part in ("valid", "test")} for name, model in results["models"].items()}


def test_all_models_stand_in_the_results(finished: Path) -> None:
    results = results_of(finished / "planted")
    assert list(results["models"]) == [*OWN, *OTHERS]
    assert results["judge"] == "reward model of the second half of users"
    for model in results["models"].values():
        for part in ("valid", "test"):
            figure = model[part]["p_score@10"]
            assert 0 < figure["low"] <= figure["value"] <= figure["high"] < 1
    own = list(reversed(OWN))
    expected = [f"{one} - {other}" for place, one in enumerate(own) for other in [*own[place + 1 :], *OTHERS]]
    assert list(results["paired"]) == expected
    for pair, figures in results["paired"].items():
        first, second = (results["models"][name]["test"] for name in pair.split(" - "))
        for name in ("recall@10", "p_score@10"):
            assert figures[name]["value"] == pytest.approx(first[name]["value"] - second[name]["value"], abs=1e-9)
    assert set(results["reward_models"]) == {"reward_first", "reward_second"}
    for name, figures in results["reward_models"].items():
        stored = json.loads((finished / "planted" / name / "evaluation" / EVALUATION_FILE).read_text(encoding="utf-8"))
        assert figures == stored
        assert figures["others"]["long"]["auc"]["tower"]["value"] > 0.5
    assert set(results["examples"][0]["recommendations"]) == {*OWN, *OTHERS}


def test_one_run_in_a_table_of_seeds_keeps_all_models_and_what_the_judge_thinks(finished: Path) -> None:
    stored, made = results_of(finished / "planted"), combined([finished / "planted"])
    assert list(made["models"]) == [*OWN, *OTHERS] and made["judge"] == stored["judge"]
    for name, model in made["models"].items():
        for part in ("valid", "test"):
            for metric in ("recall@10", "p_score@10"):
                assert model[part][metric] == pytest.approx(stored["models"][name][part][metric])
    pair = "onerec_aligned - onerec"
    assert made["paired"][pair]["p_score@10"] == pytest.approx(stored["paired"][pair]["p_score@10"])
    made["run"]["command"] = "python -m benchmarks.seeds runs/planted"
    shown_lines = shown_of(as_results_file(made)).splitlines()
    header, *rows = [line.split(" | ") for line in shown_lines if line.startswith("| ")]
    shown = {row[0].removeprefix("| "): float(row[header.index("P-Score@10")]) for row in rows}
    for name in OWN:
        model = stored["models"][name]
        assert shown[model["label"]] == pytest.approx(model["test"]["p_score@10"]["value"], abs=1e-4)


def test_seconds_of_all_stages_count_once(finished: Path) -> None:
    folder = finished / "planted"
    files = list(folder.rglob("stage.json"))
    assert (
        len({path.parent for path in files} & {folder / "aligned_ecpo", folder / "reward_second" / "evaluation"}) == 2
    )
    seconds = sum(json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in files)
    results = results_of(folder)
    assert results["run"]["seconds"] == pytest.approx(seconds)
    took = {name: model["train_seconds"] for name, model in results["models"].items()}
    assert took["onerec"] < took["onerec_reward_selection"] < took["onerec_aligned_selection"]
    assert took["onerec"] < took["onerec_aligned"] < took["onerec_aligned_selection"]


def test_lists_are_those_of_the_models_they_are_named_after(finished: Path, planted: Path) -> None:
    """A reward-selected list holds items of the beam, and judging it again gives the figure on file."""
    run = reopened(planted, finished, ALL)
    requests, judge = run.requests("test"), judge_of(run)
    made = {name: lists_of(run, model)["test"] for name, model in run.models().items()}
    candidates = load_generator(run, beam_width=20).recommend(requests, 20, exclude_seen=True)
    for selected, beam in zip(made["onerec_reward_selection"], candidates.items_CK, strict=True):
        assert set(selected[selected >= 0]) <= set(beam)
    assert not np.array_equal(made["onerec_aligned"], made["onerec"])
    assert judge is not None
    for name, items_CK in made.items():
        mean = judge.score(requests, items_CK).mean()
        assert results_of(run.folder)["models"][name]["test"]["p_score@10"]["value"] == pytest.approx(mean)
    assert judge.score(requests, np.full((len(requests), 50), -1)).max() == 0


def test_the_page_shows_rewards_and_alignment(finished: Path) -> None:
    page = (finished / "planted" / "report.html").read_text(encoding="utf-8")
    for words in (
        "Alignment by ECPO",
        "KL to the start",
        "The judge is the reward model of the second half of users",
        "OneRec, aligned, + reward selection",
    ):
        assert words in page
    assert "Reward first, learnt from the first half of the users: users that it learnt nothing from" in page


def test_what_is_done_is_not_done_again(runs: Path, planted: Path) -> None:
    before, results = states(runs), results_of(runs / "planted")
    assert main(typed(planted, runs, ALL)) == 0
    assert states(runs) == before
    assert untimed(results_of(runs / "planted")) == untimed(results)


def test_a_run_that_is_killed_in_alignment_goes_on(
    runs: Path, planted: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned = runs / "planted" / "aligned_ecpo"
    shutil.rmtree(aligned)
    before = states(runs)
    taken, step = [], AlignLoop._step

    def killed(self: AlignLoop, *rows: np.ndarray) -> dict[str, float]:
        if self.position.step == 5:
            raise KeyboardInterrupt
        taken.append(self.position.step)
        return step(self, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(AlignLoop, "_step", killed)
        assert main(typed(planted, runs, ALL)) == 130
    assert (aligned / "checkpoint.pt").exists() and taken == [0, 1, 2, 3, 4]
    assert main(typed(planted, runs, ALL)) == 0
    weights = [path / "planted" / "aligned_ecpo" / "model" / "model.safetensors" for path in (runs, finished)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert untimed(results_of(runs / "planted")) == untimed(results_of(finished / "planted"))
    after = states(runs)
    assert {name: after[name] for name in ARTEFACTS if name != "aligned_ecpo"} == {
        name: before[name] for name in ARTEFACTS if name != "aligned_ecpo"
    }


def test_evaluate_measures_the_same_models(runs: Path) -> None:
    folder = runs / "planted"
    before, results = states(runs), results_of(folder)
    assert main(["evaluate", str(folder)]) == 0
    assert untimed(results_of(folder)) == untimed(results)
    assert states(runs) == before
    assert main(["evaluate", str(folder), "reward.selection.beam_width=12"]) == 0
    again = results_of(folder)
    for name in (*OWN[:3], *OTHERS):
        assert again["models"][name]["test"] == results["models"][name]["test"]
    for name in OWN[3:]:
        assert again["models"][name]["reward_selection"]["beam_width"] == 12
        assert again["models"][name]["test"]["recall@50"] != results["models"][name]["test"]["recall@50"]


def test_evaluate_leaves_out_what_is_not_there(runs: Path) -> None:
    folder = runs / "planted"
    shutil.rmtree(folder / "aligned_ecpo")
    assert main(["evaluate", str(folder)]) == 0
    assert list(results_of(folder)["models"]) == ["onerec", "onerec_selection", "onerec_reward_selection", *OTHERS]
    assert "Alignment by" not in (folder / "report.html").read_text(encoding="utf-8")
    for name in ("reward_first", "reward_second"):
        shutil.rmtree(folder / name)
    assert main(["evaluate", str(folder)]) == 0
    results = results_of(folder)
    assert list(results["models"]) == ["onerec", "onerec_selection", *OTHERS]
    assert (results["judge"], results["reward_models"]) == (None, {})


@pytest.mark.parametrize(
    ("overrides", "added", "rewards", "judge"),
    [
        (["after_training=[]"], [], [], None),
        (
            ["after_training=[reward]"],
            OWN[3:4],
            ["reward_first", "reward_second"],
            "reward model of the second half of users",
        ),
        (["after_training=[reward]", "align.judge_half=null"], OWN[3:4], ["reward"], None),
        ([ALL, *RULES], OWN[2:], ["reward_first", "reward_second"], "reward model of the second half of users"),
        ([ALL, *RULES, "align.judge_half=null"], OWN[2:], ["reward"], None),
        (
            ["after_training=[align]"],
            OWN[2:3],
            ["reward_first", "reward_second"],
            "reward model of the second half of users",
        ),
        (["after_training=[align]", *RULES, "reward=null"], OWN[2:3], [], None),
    ],
)
def test_a_stage_is_left_out_where_it_is_not_named(
    overrides: list[str], added: list[str], rewards: list[str], judge: str | None, runs: Path, planted: Path
) -> None:
    folder = runs / "planted"
    for path in folder.glob("reward*"):
        # Those of the fixture may stay where they are asked for: they are the same.
        if not rewards:
            shutil.rmtree(path)
    assert trained_names(config_of(reopened(planted, runs, *overrides))) == rewards
    assert main(typed(planted, runs, *overrides)) == 0
    results = results_of(folder)
    assert list(results["models"]) == ["onerec", "onerec_selection", *added, *OTHERS]
    assert results["judge"] == judge
    if not rewards:
        assert not list(folder.glob("reward*"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([ALL, "reward=null"], "after_training names reward, but the config says reward: null"),
        (["after_training=[align]", "reward=null"], "align by rules: align.rewards.p_score=0"),
        (["after_training=[rsft]"], "rsft: null"),
        (["after_training=[reward]", "reward.objectives=[clicks]"], 'reward.objectives: "clicks"'),
        ([ALL, "align.scenario={column: shape, value: round}"], 'no item has the value "round"'),
        (["after_training=[selection]"], "after_training.0"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_trained(
    overrides: list[str], words: str, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed(planted, tmp_path, *overrides)) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "planted" / "semantic_ids").exists()


def test_alignment_in_several_processes_is_refused_before_training(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reopened(planted, tmp_path, ALL)
    monkeypatch.setitem(run.state.__dict__, "num_processes", 2)
    with pytest.raises(UserError, match=r"one process; train with after_training=\[\]"):
        complete(run)
    assert not (run.folder / "sequences").exists()


def test_train_does_nothing_after_training(planted: Path, tmp_path: Path) -> None:
    assert main(["train", *typed(planted, tmp_path, ALL, "train.epochs=1")[1:]]) == 0
    assert not list((tmp_path / "planted").glob("reward*")) and not list((tmp_path / "planted").glob("aligned*"))
