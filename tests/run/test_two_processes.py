"""Two processes with the same global batch train what one trains, and their run ends in the same report."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import GENERATOR_ONLY, TinyRun, configured, environment, results_of, training_log

from onerec.cli import main

# A batch of 31 windows splits unevenly, and the last batch of an epoch holds 26. Dropout draws differ between processes.
SETTINGS = (
    *GENERATOR_ONLY,
    "tokenizer.quantizer.method=rq_vae",  # whose library would share codebooks among processes if it could
    "generator.dropout=0",
    "generator.own_dropout=0",
    "train.batch_size=31",
    "train.epochs=3",
)
# `--multi_gpu` is what makes accelerate start several processes; with `--cpu` it starts one, whatever number is asked for.
LAUNCH = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]


def test_a_launcher_that_starts_one_process_is_told_on(
    tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `accelerate launch --cpu --num_processes 2` leaves in the environment of the only process it starts."""
    command = ["tokenize", *configured("tiny", tiny_copy.dataset), "--runs", str(tiny_copy.folder.parent)]
    assert main(command) == 0
    assert "--multi_gpu" not in capsys.readouterr().out
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert main(command) == 0
    assert "accelerate started one process only; --multi_gpu" in capsys.readouterr().out


def test_two_processes_equal_one(tiny_run: TinyRun, tmp_path: Path) -> None:
    settings = configured("same", tiny_run.dataset, *SETTINGS)
    module = ["--main_process_port=0", "--module", "onerec.cli"]
    launched = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, *module, "run", *settings, "--runs", "two"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    assert main(["run", *settings, "--runs", str(tmp_path / "one")]) == 0

    assert launched.stdout.count("semantic IDs: reading") == 1  # said once, done once
    one, two = training_log(tmp_path / "one" / "same"), training_log(tmp_path / "two" / "same")
    assert len(one) == 6  # a line of training and one of validation each epoch
    for ours, theirs in zip(one, two, strict=True):
        if "loss" in ours:
            # Only the order of summation differs: float32 over 15 steps.
            assert theirs == pytest.approx(ours, rel=1e-4)
        else:
            # Near-equal items may swap places; of 50 users that is one user's hit at the most.
            assert theirs == pytest.approx(ours, abs=0.021)
    first, second = (results_of(tmp_path / folder / "same")["models"]["onerec"] for folder in ("one", "two"))
    assert second["test"]["recall@10"]["value"] == pytest.approx(first["test"]["recall@10"]["value"], abs=0.021)
    assert first["parameters"] == second["parameters"]
