"""Datasets that the tests of several rooms share."""

from pathlib import Path

import pytest
from reward_data import planted_events, write_planted
from watched_cases import watched_events, write_watched


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 150 users with a planted preference."""
    return write_planted(tmp_path_factory.mktemp("planted") / "data", planted_events(150)).folder


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 40 users with play times."""
    return write_watched(tmp_path_factory.mktemp("watched") / "data", watched_events(40)).folder
