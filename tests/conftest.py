"""Fixtures that several rooms share: a small log with something to learn, a finished run."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import TinyRun, configured, onerec
from hypothesis import settings

# The same examples on every run: a test that fails once fails again.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# Figures are compared between processes and to the last bit, so a GPU that happens to be there stays out of it.
os.environ["ACCELERATE_USE_CPU"] = "true"


def chain_log(users: int, items: int, seed: int) -> pl.DataFrame:
    """Events in which item n is mostly followed by item n + 1: easy to learn, hopeless for popularity."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(6, 14, size=users)
    rows = []
    for user, length in enumerate(lengths):
        steps = np.where(generator.random(length) < 0.9, 1, generator.integers(2, items, size=length))
        rows.append(
            pl.DataFrame(
                {
                    "user": [f"u{user}"] * int(length),
                    "item": (int(generator.integers(items)) + np.cumsum(steps)) % items,
                    "time": np.arange(int(length)) * 60 + user,
                }
            )
        )
    return pl.concat(rows)


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Embeddings that tests make are no one else's business, and nobody else's may answer for them."""
    os.environ["ONEREC_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def chain_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-column CSV of such a log."""
    path = tmp_path_factory.mktemp("own") / "log.csv"
    chain_log(users=150, items=60, seed=3).write_csv(path)
    return path


@pytest.fixture(scope="session")
def chain_dataset(chain_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder of such a log, made by the command that a user types."""
    folder = tmp_path_factory.mktemp("imported")
    flags = ["--user", "user", "--item", "item", "--time", "time", "--out", "mine"]
    made = onerec("data", "import", chain_csv, *flags, cwd=folder)
    assert made.returncode == 0, made.stderr
    return folder / "mine"


@pytest.fixture(scope="session")
def tiny_run(chain_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A complete run of it with configs/own.yaml made tiny."""
    folder = tmp_path_factory.mktemp("tiny")
    done = onerec("run", *configured("tiny", chain_dataset), cwd=folder, python=["-X", "importtime"])
    assert done.returncode == 0, done.stderr
    return TinyRun(folder / "runs" / "tiny", chain_dataset, done.stdout, done.stderr)


@pytest.fixture
def tiny_copy(tiny_run: TinyRun, tmp_path: Path) -> TinyRun:
    """A copy of the finished run that a test may change."""
    shutil.copytree(tiny_run.folder, tmp_path / "runs" / "tiny")
    return TinyRun(tmp_path / "runs" / "tiny", tiny_run.dataset, tiny_run.stdout, tiny_run.stderr)
