"""Mistakes on the command line and in datasets end with one line that says what to do, never with a traceback."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import GENERATOR_ONLY, TinyRun, configured, environment, file_states, results_of

from onerec.cli import main
from onerec.data.contract import DatasetSpec, write_dataset


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("onerec: ")
    assert message.count("\n") == 1, message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--user", "u33x"], ['no user "u33x"', "did you mean", "u33"]),
        (["--user", "?"], ['no user "?"', "ids look like u0"]),
        (["--history", "1", "x59"], ['no item "x59"', "did you mean", "59"]),
        (["--history", "1", "--count", "0"], ["--count must be at least 1"]),
    ],
)
def test_recommend_names_what_it_does_not_know(
    asked: list[str], words: list[str], tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(["recommend", str(tiny_run.folder), *asked], capsys)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("command", [["recommend", "--user", "u1"], ["evaluate"]], ids=["recommend", "evaluate"])
def test_a_folder_without_a_run_is_told_apart(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal([command[0], str(tmp_path), *command[1:]], capsys)
    assert f"{tmp_path}: not a run folder (no config.json); `onerec run CONFIG` makes one" in message


@pytest.mark.parametrize("override", ["train.epochs=3", "seed=1", "generator.width=32", "epochs"])
def test_evaluate_takes_only_keys_that_need_no_training(
    override: str, tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_states(tiny_copy.folder)
    message = refusal(["evaluate", str(tiny_copy.folder), override], capsys)
    assert f'"{override}"' in message
    assert "recommend., selection., reward.selection. and evaluate." in message
    assert file_states(tiny_copy.folder) == before


@pytest.mark.parametrize("override", ["recommend.beam_widht=60", "evaluate.bootstrap_samples=few"])
def test_evaluate_checks_its_keys(override: str, tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert override.partition("=")[0] in refusal(["evaluate", str(tiny_run.folder), override], capsys)


def test_evaluate_measures_again_without_training_again(tiny_copy: TinyRun) -> None:
    """Validation during training knows recommend.exclude_seen too; asking for another one must not disown the weights."""
    trained = file_states(tiny_copy.folder / "generator") | file_states(tiny_copy.folder / "baselines")
    before = results_of(tiny_copy.folder)
    assert main(["evaluate", str(tiny_copy.folder), "recommend.exclude_seen=false", "evaluate.examples=2"]) == 0
    after = results_of(tiny_copy.folder)
    assert trained == file_states(tiny_copy.folder / "generator") | file_states(tiny_copy.folder / "baselines")
    assert (before["protocol"]["exclude_seen"], after["protocol"]["exclude_seen"]) == (True, False)
    assert after["run"]["config"]["recommend"]["exclude_seen"] is False
    assert len(after["examples"]) == 2
    seen = [example for example in after["examples"] if example["history"]]
    shown = {item["item"] for example in seen for item in example["recommendations"]["popularity"]}
    assert shown  # everybody's list, now also for those who have seen it
    assert len({tuple(i["item"] for i in e["recommendations"]["popularity"]) for e in seen}) == 1


def test_a_baseline_whose_training_was_killed_is_not_measured(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tiny_copy.folder / "baselines" / "sasrec" / "stage.json"
    stage.write_text(json.dumps({**json.loads(stage.read_text()), "finished": False}))
    (tiny_copy.folder / "lists" / "sasrec" / "stage.json").unlink()
    assert "SASRec is not trained to the end" in refusal(["evaluate", str(tiny_copy.folder)], capsys)
    assert main(["recommend", str(tiny_copy.folder), "--history", "1"]) == 0


def test_a_log_without_play_times_has_no_sessions_to_drop(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rsft", *configured("tiny", tiny_copy.dataset), "--runs", str(tiny_copy.folder.parent)]
    assert "the config says rsft: null" in refusal(command, capsys)
    message = refusal([*command, "rsft.session_events=4"], capsys)
    assert f"{tiny_copy.dataset / 'dataset.yaml'}: events.play_time names no column" in message


@pytest.mark.parametrize(
    ("columns", "split", "more", "words"),
    [
        (
            {"user": ["a", "a", "b", "b", "c"], "item": [1, 2, 2, 3, 1]},
            "leave_one_out",
            {},
            "no user has an event to validate on; leave-one-out needs users with at least three events",
        ),
        (
            {"user": ["a"] * 4, "item": [1, 2, 3, 4], "period": ["train", "train", "valid", "test"]},
            "by_period",
            {"period": "period", "order": "none"},
            "its events have no order",
        ),
    ],
    ids=["users too short to test", "events without an order"],
)
def test_a_log_that_cannot_be_split_is_refused(
    columns: dict[str, Any],
    split: str,
    more: dict[str, str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = {
        "name": "small",
        "events": {"user": "user", "item": "item", **more},
        "items": {"id": "item"},
        "split": split,
    }
    events = pl.DataFrame(columns)
    dataset = tmp_path / "small"
    write_dataset(dataset, DatasetSpec.model_validate(spec), events, events.select(pl.col("item").unique().sort()))
    command = ["run", *configured("small", dataset, *GENERATOR_ONLY), "--runs", str(tmp_path / "runs")]
    assert f"{dataset}: {words}" in refusal(command, capsys)


def test_a_dataset_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tokenize", *configured("none", tmp_path / "nowhere"), "--runs", str(tmp_path)]
    assert f"{tmp_path / 'nowhere'}: no such folder" in refusal(command, capsys)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.width=18", ["generator.width", "18", "2 x heads"]),
        ("tokenizer.quantizer.level_sizes=[2,2]", ["60"]),
        ("dataset.positive=liked", ['no "liked"', "dataset.yaml"]),
        ("dataset.split=by_period", ["by_period", "events.period"]),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    override: str, words: list[str], tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *configured("unfit", tiny_run.dataset, override), "--runs", str(tmp_path)]
    message = refusal(command, capsys)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("command", "override"),
    [
        ("run", "dataset.positive=typo"),
        ("run", "dataset.folder=typo"),
        ("run", "tokenizer.quantizer.level_sizes=[2,2]"),
        ("run", "generator.width=18"),
        ("tokenize", "tokenizer.quantizer.level_sizes=[2,2]"),
        ("align", "align.rewards.hit=1"),  # without the run's own overrides
    ],
)
def test_a_refused_command_leaves_a_finished_run(
    command: str, override: str, tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: state for name, state in file_states(tiny_copy.folder).items() if ".lock" not in name}
    config, *own = configured("tiny", tiny_copy.dataset)
    if command == "align":
        own = ["name=tiny", f"dataset.folder={tiny_copy.dataset}"]
    refusal([command, config, *own, override, "--runs", str(tiny_copy.folder.parent)], capsys)
    after = file_states(tiny_copy.folder)
    assert {name: after.get(name) for name in before} == before
    assert main(["recommend", str(tiny_copy.folder), "--history", "1"]) == 0


def test_a_project_with_folders_of_the_same_names_is_left_alone(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("generator", "sequences", "lists"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "mine.py").write_text("dear to me")
    before = file_states(tmp_path)
    command = ["run", *configured("project", tiny_run.dataset), "--runs", str(tmp_path)]
    assert "is not a run folder" in refusal(command, capsys)
    assert file_states(tmp_path) == before


def test_hours_of_work_are_not_replaced_without_a_question(
    tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onerec.run.run.ASKED_SECONDS", 0.01)
    command = ["train", *configured("tiny", tiny_copy.dataset, "train.learning_rate=0.02")]
    command += ["--runs", str(tiny_copy.folder.parent)]
    before = file_states(tiny_copy.folder / "generator")
    message = refusal(command, capsys)
    assert "add --redo to make it anew" in message and "nothing was changed" in message
    assert file_states(tiny_copy.folder / "generator") == before
    assert main([*command, "--redo"]) == 0
    assert file_states(tiny_copy.folder / "generator") != before


def test_a_folder_that_another_command_holds_is_refused(tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    held = "import sys, time; from pathlib import Path; from onerec.locks import hold_folder; "
    held += "lock = hold_folder(Path(sys.argv[1]), 'onerec train'); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", held, str(tiny_copy.folder)], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        command = ["train", *configured("tiny", tiny_copy.dataset, "train.learning_rate=0.02")]
        message = refusal([*command, "--runs", str(tiny_copy.folder.parent)], capsys)
        assert f"in use by `onerec train` (process {holder.pid} on " in message
        assert main(["recommend", str(tiny_copy.folder), "--history", "1"]) == 0  # needs no lock
    finally:
        holder.kill()
        holder.wait()
    assert main([*command, "--runs", str(tiny_copy.folder.parent)]) == 0  # nothing is left to be removed by hand


def test_a_changed_file_of_a_run_is_found_and_running_again_repairs_it(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tiny_copy.folder / "generator" / "model" / "model.safetensors"
    made = weights.read_bytes()
    weights.write_bytes(made[:-5] + bytes([made[-5] ^ 1]) + made[-4:])
    for command in (["recommend", str(tiny_copy.folder), "--history", "1"], ["evaluate", str(tiny_copy.folder)]):
        assert f"{weights}: not the file that was saved" in refusal(command, capsys)
    assert main(["run", *configured("tiny", tiny_copy.dataset), "--runs", str(tiny_copy.folder.parent)]) == 0
    assert weights.read_bytes() == made


def test_a_training_that_diverges_ends_in_words(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *configured("wild", tiny_run.dataset, "train.learning_rate=1e12", "train.warmup_steps=0")]
    message = refusal([*command, "--runs", str(tmp_path)], capsys)
    assert "is not a finite number; lower its learning rate (its peak is 1e+12)" in message
