"""kill -9 in the middle of training, then the same command: the end is the one an uninterrupted run comes to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import GENERATOR_ONLY, TinyRun, configured, environment, onerec, results_of, training_log

from onerec.cli import main

# 38 steps an epoch and a checkpoint every 5: wherever the kill lands, steps behind the last checkpoint are lost.
SETTINGS = (*GENERATOR_ONLY, "train.batch_size=4", "train.epochs=5", "train.patience=99", "train.checkpoint_every=5")


def kill_in_training(command: list[str], run: Path, folder: Path) -> None:
    """Start the command and kill it without warning once it has checkpointed and logged a few lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "onerec.cli", *command], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    )
    log, deadline = run / "generator" / "metrics.jsonl", time.monotonic() + 60
    while not ((run / "generator" / "checkpoint.pt").exists() and log.read_bytes().count(b"\n") >= 12):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, whole = tmp_path / "killed" / "same", tmp_path / "whole" / "same"
    settings = configured("same", tiny_run.dataset, *SETTINGS)
    kill_in_training(["run", *settings, "--runs", str(tmp_path / "killed")], killed, tmp_path)

    log = killed / "generator" / "metrics.jsonl"
    before = log.read_text(encoding="utf-8").splitlines()
    assert training_log(killed)[-1]["step"] < 190
    assert not (killed / "results.json").exists()
    assert main(["recommend", str(killed), "--user", "u3"]) == 2
    message = capsys.readouterr().err
    assert "its generator is not trained to the end" in message
    assert message.count("\n") == 1

    again = onerec("run", *settings, "--runs", tmp_path / "killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert main(["run", *settings, "--runs", str(tmp_path / "whole")]) == 0

    # It went on and did not start over: lines from before the kill are still there, with the clock's figures of then.
    assert log.read_text(encoding="utf-8").splitlines()[:8] == before[:8]
    assert training_log(killed) == training_log(whole)
    assert max(line["step"] for line in training_log(killed)) == 190
    weights = [(run / "generator" / "model" / "model.safetensors").read_bytes() for run in (killed, whole)]
    assert weights[0] == weights[1]
    first, second = (results_of(run)["models"]["onerec"] for run in (killed, whole))
    assert first["test"] == second["test"]
    assert first["valid"] == second["valid"]
    assert (first["best_step"], first["steps"]) == (second["best_step"], second["steps"])
