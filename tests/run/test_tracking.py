"""Weights & Biases when asked for: offline it needs no network, and what it writes stays in the run folder."""

from pathlib import Path

from command_line import GENERATOR_ONLY, TinyRun, configured, onerec, training_log

DEAD = "http://127.0.0.1:9"  # whoever tries to reach the network through this fails at once


def test_offline_tracking_leaves_its_run_in_the_run_folder(tiny_run: TinyRun, tmp_path: Path) -> None:
    proxies = {name: DEAD for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")}
    command = ["train", *configured("tracked", tiny_run.dataset, *GENERATOR_ONLY, "train.epochs=1"), "--track", "wandb"]
    done = onerec(*command, cwd=tmp_path, WANDB_MODE="offline", **proxies)
    assert done.returncode == 0, done.stderr
    generator = tmp_path / "runs" / "tracked" / "generator"
    kept = list((generator / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(kept) == 1
    assert kept[0].stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    # The log of our own is the same with and without it.
    assert training_log(generator.parent) == training_log(tiny_run.folder)[:2]
