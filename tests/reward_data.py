"""A log with a planted preference: users like items of one of two kinds, and what is recorded depends on the period."""

from pathlib import Path

import numpy as np
import polars as pl
from command_line import opened

from onerec.data.contract import Dataset, DatasetSpec, EventColumns, ItemColumns, UserColumns, write_dataset
from onerec.run.run import Run

ITEMS, HISTORY, LATER = 40, 14, 6
SIGNALS = ["click", "long", "like"]
QUICK = (
    "dataset.positive=long",
    "reward.width=16",
    "reward.tower_width=8",
    "reward.train.epochs=20",
    "reward.train.patience=20",
    "reward.train.learning_rate=0.01",
    "reward.train.warmup_steps=10",
    "tokenizer.alignment=null",
)


def planted_events(users: int, seed: int = 0) -> pl.DataFrame:
    """Impressions of three periods. Items below 20 are of kind 0, users with an even number like these.

    A liked kind is watched long 8 times in 10, another one 2 times. In the history period clicks are not recorded.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        items = draw.integers(ITEMS, size=HISTORY + 2 * LATER)
        liked = (items >= ITEMS // 2) == user % 2
        chance = np.where(liked[:, None], [0.9, 0.8, 0.4], [0.4, 0.2, 0.02])
        signals = (draw.random((len(items), 3)) < chance).astype(np.int8)
        period = ["history"] * HISTORY + ["valid"] * LATER + ["test"] * LATER
        rows.append(
            pl.DataFrame({"user": [f"u{user}"] * len(items), "item": items, "period": period}).with_columns(
                pl.Series(name, signals[:, place]) for place, name in enumerate(SIGNALS)
            )
        )
    events = pl.concat(rows)
    return events.with_columns(click=pl.when(pl.col("period") != "history").then("click"))


def write_planted(folder: Path, events: pl.DataFrame, signals: list[str] = SIGNALS) -> Dataset:
    """The dataset folder of such events; nothing about an item says its kind."""
    users = events.select("user").unique(maintain_order=True).with_columns(town=pl.lit("a"))
    spec = DatasetSpec(
        name="planted",
        events=EventColumns(user="user", item="item", period="period", signals=signals),
        items=ItemColumns(id="item", categorical=["shape"]),
        users=UserColumns(id="user", categorical=["town"]),
        split="by_period",
    )
    items = pl.DataFrame({"item": range(ITEMS), "shape": [f"s{item % 7}" for item in range(ITEMS)]})
    dropped = [name for name in SIGNALS if name not in signals]
    return write_dataset(folder, spec, events.drop(dropped), items, users)


def quick_run(folder: Path, dataset: Path, *overrides: str) -> Run:
    """A run over such a dataset with a small reward model."""
    return opened("planted", dataset, folder, *QUICK, *overrides)
