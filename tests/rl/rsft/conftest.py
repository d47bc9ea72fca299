"""Runs with a trained generator, for the tests of RSFT."""

import shutil
from pathlib import Path

import pytest
from rsft_cases import typed

from onerec.cli import main


@pytest.fixture(scope="package")
def trained(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one whose generator is trained."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *typed(watched), "--runs", str(runs)]) == 0
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"
