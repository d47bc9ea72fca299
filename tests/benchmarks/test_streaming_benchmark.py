"""The simulated log is what it says, every stage runs on it, and the table shows what was measured."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import streaming
from benchmarks.speed import simulated_log, streaming_stages
from onerec.data.contract import read_dataset

SMALL = {"generator.width": 16, "generator.hidden_width": 16, "tokenizer.quantizer.level_sizes": [8, 8, 8]}
SETTINGS: dict[str, Any] = {
    "events": 4000,
    "items": 300,
    "steps": 3,
    "own_steps": 2,
    "users": 20,
    "limit_gib": 8.0,
    "config": {**streaming.CONFIG, **SMALL},
}


def test_the_log_has_its_size_and_its_order_whatever_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_log, "PART_ROWS", 700)
    for name in ("one", "two"):
        simulated_log.write_log(tmp_path / name, 3000, 400, seed=1)
    dataset = read_dataset(tmp_path / "one")
    assert (dataset.log.height, len(dataset.items)) == (3000, 400)
    assert dataset.sha256 == read_dataset(tmp_path / "two").sha256
    assert dataset.events["time"].to_list() == list(range(3000))
    assert not dataset.events["user"].is_sorted()  # users are interleaved
    counts = dataset.events["user"].value_counts()["count"]
    assert counts.max() > 3 * counts.median()  # type: ignore[operator]
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == [
        "dataset.yaml",
        "events.parquet",
        "items.parquet",
    ]


def test_users_keep_to_their_clusters(tmp_path: Path) -> None:
    simulated_log.write_log(tmp_path, 4000, 5000, seed=1)  # ten clusters, 200 users
    events = read_dataset(tmp_path).events.with_columns(cluster=pl.col("item") % 10)
    shares = events.group_by("user").agg(
        top=pl.col("cluster").value_counts(sort=True).struct.field("count").head(3).sum() / pl.len()
    )
    assert shares["top"].mean() > 0.75  # type: ignore[operator]  # three of ten clusters would be 0.3 by chance


def test_all_stages_run(tmp_path: Path) -> None:
    made = {stage: streaming_stages.STAGES[stage](tmp_path, SETTINGS) for stage in streaming.LABELS}
    assert list(streaming.LABELS) == list(streaming_stages.STAGES)
    assert made["read"]["events"] == 4000
    assert made["train"]["steps"] == 3 and made["train_own"]["steps"] == 2
    per_item = SETTINGS["config"]["generator.width"] * SETTINGS["items"]
    assert made["train_own"]["parameters"] >= made["train"]["parameters"] + 2 * per_item  # read and predicted
    assert made["decode"]["users"] == 20
    rows = [{"stage": stage, "events_per_second": 1.0, "peak_mib": 512.0, **row} for stage, row in made.items()]
    run = {"config": SETTINGS, "seconds": 60.0, "machine": {"cores": 2}, "commit": "0" * 40, "dirty": False}
    table = streaming.markdown({"run": {**run, "command": "python"}, "rows": rows})
    assert "| train, 3 steps |" in table and "| decode, beam 50, 20 users |" in table
    assert table.count("| 0.50 GiB |") == 6 and "4,000 events, 300 items" in table
    assert streaming.figures(rows)["largest_peak_gib"] == 0.5


def test_a_stage_over_its_limit_fails(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"simulate failed under 0.05 GiB"):
        streaming.measured("simulate", tmp_path, {**SETTINGS, "limit_gib": 0.05})


def test_a_process_says_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: list[Any] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append((kind, limit)))
    monkeypatch.setattr(sys, "argv", ["stage", "simulate", str(tmp_path), json.dumps(SETTINGS)])
    assert streaming_stages.main() == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["events"] == 4000 and said["peak_mib"] > 10
    assert limits == [(resource.RLIMIT_DATA, (8 << 30, 8 << 30))]
