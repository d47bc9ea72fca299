"""Runs of which the generator is trained, for the tests of RSFT."""

import shutil
from pathlib import Path

import pytest
from rsft_cases import typed
from watched_cases import watched_events, write_watched

from onerec.cli import main


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "data"
    write_watched(folder, watched_events(40))
    return folder


@pytest.fixture(scope="package")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one whose generator is trained."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *typed(data), "--runs", str(runs)]) == 0
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"
