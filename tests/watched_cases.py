"""A log of watched and liked videos, and runs over it that read every event."""

from pathlib import Path

import numpy as np
import polars as pl
from command_line import GENERATOR_ONLY, configured

from onerec.data.contract import Dataset, DatasetSpec, write_dataset
from onerec.run.config_files import load_config
from onerec.run.opening import open_run
from onerec.run.run import Run

ITEMS, HISTORY_LENGTH = 40, 6
PLAIN = (*GENERATOR_ONLY, "selection=null", "dataset.positive=liked", f"generator.history_length={HISTORY_LENGTH}")
READS = ("generator.pathways.stream=all", "generator.pathways.event_features=all")
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


def with_another_end(events: pl.DataFrame) -> pl.DataFrame:
    """The same log, except that everything behind the training period is otherwise."""
    behind = pl.col("period") != "train"
    return events.with_columns(
        item=pl.when(behind).then((pl.col("item") + 7) % ITEMS).otherwise("item"),
        shared=pl.when(behind).then(1 - pl.col("shared")).otherwise("shared"),
        played=pl.when(behind).then(9000).otherwise("played"),
        time=pl.when(behind).then(pl.col("time") + 10**6).otherwise("time"),
    )


def spec_without(column: str | None) -> DatasetSpec:
    """`SPEC` of a log that lacks a column, such as `play_time`; None: with all of them."""
    return SPEC.model_copy(update={"events": SPEC.events.model_copy(update={column: None} if column else {})})


def write_watched(folder: Path, events: pl.DataFrame, spec: DatasetSpec = SPEC) -> Dataset:
    """A dataset folder of these events."""
    items = pl.DataFrame({"item": range(ITEMS), "kind": [f"k{item // 6}" for item in range(ITEMS)]})
    return write_dataset(folder, spec, events, items)


def opened(dataset: Dataset, runs: Path, *overrides: str, pathways: bool = True) -> Run:
    """A run over it, nothing trained."""
    path, *rest = configured("watched", dataset.folder, *PLAIN, *(READS if pathways else ()), *overrides)
    return open_run(load_config(Path(path), rest), runs)
