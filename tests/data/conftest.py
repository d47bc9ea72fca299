"""A small dataset in memory, and a writer that skips every check so that damaged folders can be made."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

SPEC: dict[str, Any] = {
    "name": "small",
    "licence": "made up",
    "events": {
        "user": "user_id",
        "item": "item_id",
        "time": "time",
        "period": "period",
        "signals": ["liked"],
    },
    "items": {
        "id": "item_id",
        "text": ["title"],
        "categorical": ["genre"],
        "numeric": ["year"],
        "videos": ["clip"],
        "images": ["cover"],
    },
    "users": {"id": "user_id", "categorical": ["country"]},
    "split": "leave_one_out",
}


def small_tables() -> dict[str, pl.DataFrame]:
    events = pl.DataFrame(
        {
            "user_id": [7, 7, 7, 7, 3, 3, 3, 5],
            "item_id": [10, 11, 12, 13, 11, 10, 13, 12],
            "time": [1, 2, 2, 9, 4, 5, 6, 7],
            "period": ["history", "history", "valid", "test", "train", "valid", "test", "train"],
            "liked": [1, 0, 1, 1, 1, 1, None, 0],
        },
        schema_overrides={"liked": pl.Int8},
    )
    items = pl.DataFrame(
        {
            "item_id": [10, 11, 12, 13, 14],
            "title": ["one", "two", None, "four", "five"],
            "genre": ["a", "a b", "b", None, "c"],
            "year": [1990.0, None, 1992.0, 1993.0, 1994.0],
            "clip": ["a.mp4", None, "c.mp4", None, None],
            "cover": ["a.png", "", "c.png", "", ""],
        }
    )
    users = pl.DataFrame({"user_id": [3, 5, 7, 9], "country": ["FR", "DE", None, "IT"]})
    return {"events": events, "items": items, "users": users}


def write_unchecked(folder: Path, tables: dict[str, pl.DataFrame], spec: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    return write_unchecked(tmp_path / "small", small_tables(), SPEC)
