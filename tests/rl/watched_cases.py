"""A log of watched and liked videos, and runs over it that read every event."""

from pathlib import Path

import numpy as np
import polars as pl
from command_line import GENERATOR_ONLY, configured

from onerec.run.config import load_config
from onerec.data.contract import Dataset, DatasetSpec, write_dataset
from onerec.run.run import Run, open_run

ITEMS = 40
SPEC = DatasetSpec.model_validate(
    {
        "name": "watched",
        "events": {
            "user": "user",
            "item": "item",
            "time": "time",
            "period": "period",
            "signals": ["liked", "shared"],
            "play_time": "played",
            "duration": "long",
        },
        "items": {"id": "item", "categorical": ["kind"]},
        "split": "by_period",
    }
)


def watched_events(users: int = 25, seed: int = 5) -> pl.DataFrame:
    """Events of a training, a validation and a test period; about half are liked."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(6, 20, size=users)
    total, user = int(counts.sum()), np.repeat(np.arange(users), counts)
    return pl.DataFrame(
        {
            "user": user,
            "item": draw.integers(ITEMS, size=total),
            "time": draw.integers(5, 4000, size=total).cumsum(),
            "liked": draw.integers(2, size=total).astype(np.int8),
            "shared": draw.integers(2, size=total).astype(np.int8),
            "played": draw.integers(100, size=total),
            "long": draw.integers(50, 100, size=total),
        }
    ).with_columns(
        period=pl.when(pl.int_range(pl.len()).over("user") * 3 < pl.len().over("user") * 2)
        .then(pl.lit("train"))
        .when(pl.int_range(pl.len()).over("user") < pl.len().over("user") - 2)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )


def write_watched(folder: Path, events: pl.DataFrame, spec: DatasetSpec = SPEC) -> Dataset:
    """A dataset folder of these events."""
    items = pl.DataFrame({"item": range(ITEMS), "kind": [f"k{item // 6}" for item in range(ITEMS)]})
    return write_dataset(folder, spec, events, items)


def opened(dataset: Dataset, runs: Path, *overrides: str, pathways: bool = True) -> Run:
    """A run over it, nothing trained."""
    reads = ("generator.pathways.stream=all", "generator.pathways.event_features=all") if pathways else ()
    settings = (*GENERATOR_ONLY, "selection=null", "dataset.positive=liked", "generator.history_length=6", *reads)
    path, *rest = configured("watched", dataset.folder, *settings, *overrides)
    return open_run(load_config(Path(path), rest), runs)
