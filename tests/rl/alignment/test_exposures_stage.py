"""The stage and the command with logged exposures, beside generations and alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from align_cases import curves
from command_line import configured
from watched_cases import PLAIN, READS, spec_without, watched_events, write_watched

from onerec.cli import main
from onerec.model.generator import Generator
from onerec.run.config_files import load_config
from onerec.run.opening import open_run
from onerec.run.run import Run
from rl.alignment.exposures import training_exposures

ALIGN = (
    *PLAIN,
    *READS,
    "tokenizer.alignment=null",
    "reward=null",
    "align.rollouts.group_size=8",
    "align.rollouts.exclude_seen=false",
    "align.batch_size=8",
    "align.steps=3",
    "align.exposures.batch_size=16",
    "align.exposures.least=2",
    "align.exposures.dislike=shared",
)


@pytest.fixture(scope="module")
def runs(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one whose generator is trained."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *configured("watched", watched, *ALIGN), "--runs", str(folder)]) == 0
    return folder


def command(runs: Path, watched: Path, *words: str) -> list[str]:
    return ["align", *configured("watched", watched, *ALIGN), "--runs", str(runs), *words]


def run_of(runs: Path, watched: Path, *overrides: str) -> Run:
    path, *settings = configured("watched", watched, *ALIGN, *overrides)
    return open_run(load_config(Path(path), settings), runs / "watched")


def left_in(folder: Path) -> tuple[list[dict[str, float]], dict[str, Any], dict[str, Any]]:
    facts, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("training", "results"))
    return curves(folder), facts, results


def test_alignment_by_exposures_alone_and_beside_generations(
    runs: Path, watched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exposures = training_exposures(run_of(runs, watched))
    capsys.readouterr()
    assert main(command(runs, watched, "--objective", "gbpo", "--reward", "duration_aware")) == 0
    said = capsys.readouterr().out
    assert f"gbpo: 3 steps of 16 of {len(exposures)} exposures\n" in said and "aligned - before" in said
    lines, facts, results = left_in(runs / "watched" / "aligned_gbpo")
    assert facts["exposures"] == exposures.facts and facts["prompts"] == 0
    assert all({"exposure_loss", "next_code_loss"} <= set(line) for line in lines) and len(lines) == 3
    assert not any({"objective_loss", "reward", "legality"} & set(line) for line in lines)
    assert results["judge"] is None

    beside = ("--objective", "ecpo", "--reward", "hit", "--reward", "duration_aware=0.5")
    assert main(command(runs, watched, *beside)) == 0
    said = capsys.readouterr().out
    assert f" prompts and 16 of {len(exposures)} exposures\n" in said
    lines, facts, _ = left_in(runs / "watched" / "aligned_ecpo")
    assert facts["exposures"] == exposures.facts and facts["prompts"] > 0
    assert all({"exposure_loss", "objective_loss", "reward/hit", "next_code_loss"} <= set(line) for line in lines)
    start, aligned = (
        Generator.from_pretrained(runs / "watched" / name / "model") for name in ("generator", "aligned_ecpo")
    )
    assert not all(one.equal(other) for one, other in zip(start.parameters(), aligned.parameters(), strict=True))


def test_settings_of_exposures_change_the_key_only_with_a_weight(runs: Path, watched: Path) -> None:
    rules = ("align.rewards.hit=1", "align.rewards.p_score=0")

    def key(*overrides: str) -> str:
        return run_of(runs, watched, *rules, *overrides).key("aligned_ecpo")

    assert key() == key("align.exposures.base=2") == key("align.exposures.batch_size=9")
    weighted = "align.exposures.weight=1"
    others = [weighted], [weighted, "align.exposures.base=2"], [weighted, "align.exposures.dislike=liked"]
    assert len({key(), *(key(*one) for one in others)}) == 4


def test_a_log_without_play_times_is_refused_before_a_reward_model_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_watched(tmp_path / "data", watched_events(), spec_without("play_time"))
    reads = [one for one in ALIGN if one != "reward=null" and "pathways" not in one]
    typed = [*configured("watched", tmp_path / "data", *reads), "--runs", str(tmp_path)]
    assert main(["train", *typed]) == 0
    capsys.readouterr()
    assert main(["align", *typed, "--reward", "p_score", "--reward", "duration_aware"]) == 2
    said = capsys.readouterr().err
    assert "events.play_time and events.duration" in said and said.count("\n") == 1
    assert not list((tmp_path / "watched").glob("reward*")) and not (tmp_path / "watched" / "aligned_ecpo").exists()
