"""A simulated log and catalogue of any size, written to Parquet in parts: for speed and memory, with no claim about quality.

Items belong to clusters, and within a cluster popularity falls steeply. A user prefers three clusters, some users are far more
active than others, and two events in ten come from anywhere. Users are interleaved in order of time, as in a log.
Preferences follow from the ids by arithmetic, so memory holds none of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

PART_ROWS = 1 << 20
EVENTS_PER_USER = 20
ITEMS_PER_CLUSTER = 500
WORDS = 5000


def write_log(folder: Path, events: int, items: int, seed: int) -> None:
    """Write a dataset folder with so many events and items, and with a user for every twenty events."""
    from onerec.data.contract import DatasetSpec, write_spec

    folder.mkdir(parents=True, exist_ok=True)
    users, clusters = max(1, events // EVENTS_PER_USER), max(4, items // ITEMS_PER_CLUSTER)

    def event_rows(start: int, count: int, rng: np.random.Generator) -> dict[str, Any]:
        user_E = (users * rng.random(count) ** 2).astype(np.int64)
        cluster_E = (user_E * 7919 + rng.integers(0, 3, count) * 104_729) % clusters
        anywhere_E = rng.random(count) < 0.2
        cluster_E = np.where(anywhere_E, rng.integers(0, clusters, count), cluster_E)
        rank_E = (items // clusters * rng.random(count) ** 2).astype(np.int64)
        return {"user": user_E, "item": cluster_E + clusters * rank_E, "time": np.arange(start, start + count)}

    def item_rows(start: int, count: int, rng: np.random.Generator) -> dict[str, Any]:
        item_N = np.arange(start, start + count)
        words = [(WORDS * rng.random(count) ** 2).astype(np.int64) for _ in range(2)]
        named = zip(item_N % clusters, *words, strict=True)
        return {"item": item_N, "title": [f"kind{kind} word{one} word{two}" for kind, one, two in named]}

    _write_parts(folder / "events.parquet", events, event_rows, seed)
    _write_parts(folder / "items.parquet", items, item_rows, seed + 1)
    columns = {"events": {"user": "user", "item": "item", "time": "time"}, "items": {"id": "item", "text": ["title"]}}
    write_spec(folder, DatasetSpec.model_validate({"name": "simulated", "licence": "none", **columns}))


def _write_parts(
    path: Path, rows: int, make: Callable[[int, int, np.random.Generator], dict[str, Any]], seed: int
) -> None:
    parts: list[Path] = []
    for start in range(0, rows, PART_ROWS):
        parts.append(path.with_name(f"{path.stem}-{len(parts):04}.part"))
        made = make(start, min(PART_ROWS, rows - start), np.random.default_rng([seed, start]))
        pl.DataFrame(made).write_parquet(parts[-1])
    pl.scan_parquet(parts, glob=False).sink_parquet(path, compression="zstd")
    for part in parts:
        part.unlink()
