"""Fixtures that several rooms share: real data where it is at hand, and a small log with something to learn."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="session")
def onerec_data() -> Path:
    """The folder of real datasets that the environment variable ONEREC_DATA names; without it the test is skipped."""
    folder = os.environ.get("ONEREC_DATA")
    if not folder:
        pytest.skip("ONEREC_DATA is not set: no real datasets at hand")
    return Path(folder)


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


@pytest.fixture(scope="session")
def chain_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-column CSV of such a log."""
    path = tmp_path_factory.mktemp("own") / "log.csv"
    chain_log(users=150, items=60, seed=3).write_csv(path)
    return path
