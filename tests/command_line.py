"""What the end-to-end tests share: the command line in a process of its own, tiny settings, and reading what a run left."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onerec.run.run import Run

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"

TINY = (
    "tokenizer.alignment.steps=20",
    "tokenizer.quantizer.level_sizes=[8,8]",
    "tokenizer.quantizer.rq_vae.steps=100",
    "generator.width=16",
    "generator.heads=2",
    "generator.encoder_layers=1",
    "generator.decoder_layers=1",
    "generator.hidden_width=16",
    "train.epochs=2",
    "train.batch_size=32",
    "train.learning_rate=0.01",
    "train.warmup_steps=5",
    "recommend.beam_width=50",
    "evaluate.bootstrap_samples=100",
    "evaluate.validation_users=50",
    "baselines.sasrec.model.width=16",
    "baselines.sasrec.train.epochs=2",
)
GENERATOR_ONLY = ("baselines.sasrec=null", "baselines.item_knn=null", "baselines.popularity=false")
TIMED = {"targets_per_second"}


@dataclass(frozen=True)
class TinyRun:
    """A finished run: its folder, the dataset it was made from, and what the command printed."""

    folder: Path
    dataset: Path
    stdout: str
    stderr: str


def configured(name: str, dataset: Path, *overrides: str) -> list[str]:
    """The shipped config for own data with tiny settings; later overrides win."""
    return [str(CONFIGS / "own.yaml"), f"name={name}", f"dataset.folder={dataset}", *TINY, *overrides]


def opened(name: str, dataset: Path, runs: Path, *overrides: str) -> "Run":
    """The run of such a config, with nothing made."""
    from onerec.run.config_files import load_config
    from onerec.run.opening import open_run

    path, *settings = configured(name, dataset, *overrides)
    return open_run(load_config(Path(path), settings), runs / name)


def trained(name: str, dataset: Path, runs: Path, *overrides: str) -> "Run":
    """The same after `onerec train`."""
    from onerec.run.opening import own_stages

    run = opened(name, dataset, runs, *overrides)
    run.make_all([stage.name for stage in own_stages()])
    return run


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with one thread, the checkout importable, and `variables`."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **variables}


def onerec(
    *arguments: object, cwd: Path, python: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Type a command: `onerec ARGUMENTS` in a process of its own."""
    command = [sys.executable, *python, "-m", "onerec.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=120, check=False
    )


def imported_modules(importtime: str) -> set[str]:
    """Names of the modules in what `python -X importtime` wrote to stderr."""
    return {line.rpartition("|")[2].strip() for line in importtime.splitlines() if line.startswith("import time:")}


def results_of(run: Path) -> dict[str, Any]:
    """A run's results.json."""
    content: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return content


def training_log(run: Path) -> list[dict[str, float]]:
    """The generator's metrics.jsonl without the figures that depend on the clock."""
    lines = (run / "generator" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMED} for line in lines]


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its inode and time of change: equal states mean that nothing was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
