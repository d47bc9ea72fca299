"""The alignment benchmark on a log with a planted preference: every kind of row, resumed, compared, and told as a table."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import TINY
from reward_data import QUICK as PLANTED
from reward_data import planted_events, write_planted

from benchmarks.alignment import __main__ as alignment
from benchmarks.alignment import rows as alignment_rows
from benchmarks.alignment.cell import curves_of
from benchmarks.alignment.durations import spearman, top_of_batches
from benchmarks.alignment.entries import entries, with_kept
from benchmarks.alignment.measures import Yardstick
from benchmarks.alignment.rows import (
    FREE_GENERATOR,
    FREE_SAMPLES,
    LEGALITY,
    LOSSES,
    MAIN,
    AlignmentRow,
    beauty_rows,
    kuairand_rows,
    settings_of,
)
from benchmarks.alignment.tables import markdown, parts
from benchmarks.study import runs
from benchmarks.study.cells import Cell, Row
from benchmarks.study.runs import config_of
from onerec.data.requests import Requests

NAME = "planted"


def row(name: str, group: str, label: str, *settings: str, **options: Any) -> Row:
    return alignment_rows.row_of(NAME, name, group, label, *settings, **({"seeds": (17,)} | options))


OF_FREE = {"against": "start_free", "measured": "legality"}
ROWS = [
    row("start", MAIN, "not aligned", needs=""),
    row("ecpo", MAIN, "ECPO"),
    row("hit", LOSSES, "hits", "align.rewards.p_score=0", "align.rewards.hit=1", against="ecpo", measured="lists"),
    row("start_free", LEGALITY, "free", *FREE_GENERATOR, needs="", **OF_FREE),
    row("format_random", LEGALITY, "format", *FREE_SAMPLES, "align.format.weight=1", needs="start_free", **OF_FREE),
]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a dataset that the benchmark's rows are pointed at."""
    folder = tmp_path / "data" / NAME
    write_planted(folder, planted_events(60))
    items = pl.read_parquet(folder / "items.parquet").with_columns(video_duration=pl.lit(20_000))
    items.write_parquet(folder / "items.parquet")
    tiny = [one for one in TINY if not one.startswith("baselines")]
    quick = (*alignment_rows.QUICK, *tiny, *PLANTED, "reward.train.epochs=1", "train.epochs=1")
    monkeypatch.setenv("ONEREC_DATA", str(folder.parent))
    monkeypatch.setattr(
        alignment_rows, "QUICK", (*quick, "recommend.beam_width=50", "align.rollouts.exclude_seen=false")
    )
    monkeypatch.setitem(runs.CONFIG_FILES, NAME, "own.yaml")
    monkeypatch.setattr(alignment, "ROWS", {NAME: lambda: ROWS})
    return tmp_path


def run_table(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, Any]:
    out = folder / "out.json"
    argv = ["x", NAME, "--cells", str(folder / "cells"), "--out", str(out), "--quick", "--seeds", "17", *options]
    monkeypatch.setattr(sys, "argv", argv)
    assert alignment.main() == 0
    return dict(json.loads(out.read_text(encoding="utf-8")))


def test_every_kind_of_row(planted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results = run_table(monkeypatch, planted)
    rows = {row["name"]: row for row in results["rows"]}
    assert list(rows) == ["start", "ecpo", "hit", "start_free", "format_random"]
    start, ecpo = rows["start"], rows["ecpo"]
    assert {"judge", "hit", "long_views", "shown", "recall@10", "cold", "seconds"} <= start["beam"]["test"].keys()
    assert start["beam"]["test"]["seconds"]["value"] == pytest.approx(20)
    assert "difference" not in start["beam"] and "difference" in start["selection"]
    gain, difference = (ecpo["beam"]["difference"][name]["value"] for name in ("judge_gain", "judge"))
    assert gain == pytest.approx(difference / start["beam"]["test"]["judge"]["value"])
    assert ecpo["beam"]["by_seed"].keys() == {"17"}
    assert "against" in rows["hit"]["beam"] and "selection" not in rows["hit"]
    bounds = ecpo["bounds"]["negative_gradient_norm"]
    assert 0 < bounds["mean"] <= bounds["largest"]
    assert ecpo["curves"]["negative_gradient_norm_largest"].count(None) == 2  # of 4
    assert rows["format_random"]["curves"]["legality"] and "difference" in rows["format_random"]
    assert results["figures"]["judge_gain_ecpo"] == ecpo["beam"]["difference"]["judge_gain"]
    told = markdown(results)
    assert list(parts(results)) == ["objectives", "pass-at-k", "losses", "legality", "gradients", "origin"]
    assert "ECPO + selection by the reward model" in told and "users with a hit" in told
    line = next(line for line in parts(results)["objectives"].splitlines() if line.startswith(f"| {ecpo['label']} |"))
    assert 0 < ecpo["rollout_share"] < 1 and line.endswith(f"| {ecpo['rollout_share']:.0%} |")
    entropy = rows["format_random"]["curves"]["entropy"]
    assert parts(results)["legality"].endswith(f"| {entropy[0]:.1f}, {entropy[-1]:.1f} nats |")
    # The lent stages are still there, the run that borrowed them is gone.
    cells = planted / "cells" / "quick" / NAME
    assert (cells / "start-17" / "run" / "generator" / "model").exists()
    assert not (cells / "ecpo-17" / "run").exists()
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in cells.rglob("cell.json")}
    again = run_table(monkeypatch, planted)
    assert {path: path.stat().st_mtime_ns for path in cells.rglob("cell.json")} == before
    assert again["rows"] == results["rows"]
    earlier = planted / "earlier.json"
    kept = [rows["hit"] | {"label": "of two seeds", "seeds": [17, 18]}, start | {"label": "of as many seeds"}]
    earlier.write_text(json.dumps({"rows": kept}), encoding="utf-8")
    merged = run_table(monkeypatch, planted, "--finished", "--keep", str(earlier))
    assert [row["label"] for row in merged["rows"]] == ["not aligned", "ECPO", "of two seeds", "free", "format"]


def test_a_row_whose_start_is_missing_is_left_out(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["x", NAME, "--cells", str(planted / "none"), "--out", str(planted / "o.json"), "--only", "ecpo"]
    )
    assert alignment.main() == 1
    assert "left out" in capsys.readouterr().out


def test_rows_of_an_earlier_file_stay_where_they_have_more_seeds() -> None:
    made = [{"name": "d", "seeds": [17, 18]}, {"name": "b", "seeds": [17]}]
    kept = [
        {"name": "b", "seeds": [17, 18], "old": True},
        {"name": "c", "seeds": [17], "old": True},
        {"name": "d", "seeds": [18, 19], "old": True},
        {"reward": "play time"},  # a row about durations, which every file measures anew
    ]
    found = with_kept(made, kept, ["a", "b", "c", "d"])
    assert [(entry["name"], entry.get("old", False)) for entry in found] == [("b", True), ("c", True), ("d", False)]


def test_gains_are_shares_of_the_start_on_the_users_of_both(tmp_path: Path) -> None:
    start, aligned = row("start", MAIN, "s", needs=""), row("a", MAIN, "a", seeds=(17, 18))
    users = np.arange(40)
    everyone = {"users": users, "judge": np.full(40, 0.2), "recall@10": (users % 2).astype(float)}
    # Every second user, for whom the start has recall 0.
    few = {"users": users[::2][::-1], "judge": np.full(20, 0.25), "recall@10": np.full(20, 0.5)}
    finished: dict[Row, dict[int, Cell]] = {
        start: {seed: finished_cell(tmp_path, start, seed, everyone) for seed in (17, 18, 19)},
        aligned: {seed: finished_cell(tmp_path, aligned, seed, few) for seed in (17, 18)},
    }
    found = {entry["name"]: entry for entry in entries(finished)}
    difference = found["a"]["beam"]["difference"]
    assert difference["recall@10"]["value"] == pytest.approx(0.5)
    assert difference["judge_gain"]["value"] == pytest.approx(0.25)
    assert found["a"]["beam"]["by_seed"]["18"]["judge_gain"] == pytest.approx(0.25)
    assert found["a"]["seeds"] == [17, 18] and found["start"]["seeds"] == [17, 18, 19]


def finished_cell(folder: Path, row: Row, seed: int, sample: dict[str, np.ndarray]) -> Cell:
    facts = {"commit": "c", "dirty": False, "seconds": {"measuring": 1.0}, "coverage@10": {"test_beam": 0.5}}
    passes = {"users": np.arange(4), "1": np.zeros(4), "2": np.zeros(4)}
    cell = Cell(row, seed, folder / f"{row.name}-{seed}")
    samples = {"test_beam": sample, "valid_beam": sample, "pass_judge": passes, "pass_hit": passes}
    cell.write(facts, samples)
    return cell


def test_the_yardstick_counts_what_users_did() -> None:
    items = np.array([[0, 2, 3, -1], [1, 0, -1, -1]], dtype=np.int32)
    asked = Requests.of_histories(np.array([9, 9], np.int32), np.array([0, 1, 2]))
    asked = replace(asked, users_C=np.array([0, 3], np.int32), targets_C=np.array([3, 1], np.int32))
    shown = np.array([0 * 10 + 0, 0 * 10 + 2, 3 * 10 + 2])  # user 3 was shown item 2, not 1
    taken = np.array([0 * 10 + 2])

    class Constant:
        def p_scores(self, requests: Requests, items_CX: np.ndarray) -> np.ndarray:
            return items_CX / 10

    counts = np.array([5, 0, 5, 5, 5, 5, 5, 5, 5, 5])
    seconds = np.array([1.0, 3.0, np.nan, 4.0] + [0.0] * 6)
    found = Yardstick(counts, seconds, Constant(), shown, taken).measure(asked, items)  # type: ignore[arg-type]
    assert found["long_views"].tolist() == [1, 0] and found["hit"].tolist() == [1, 0]
    assert found["shown"].tolist() == [2, 0]
    assert found["judge"].tolist() == pytest.approx([(0 + 0.2 + 0.3) / 3, 0.1 / 2])
    assert found["cold"].tolist() == pytest.approx([0, 0.5])
    assert found["seconds"].tolist() == pytest.approx([(1 + 4) / 2, 2])
    assert found["recall@10"].tolist() == [1, 1]


def test_curves_keep_every_step_in_some_piece(tmp_path: Path) -> None:
    lines = [{"step": step + 1, "reward": float(step), "ratio_max": float(step)} for step in range(120)]
    lines[3]["kl_to_start"] = 2.0
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    curves = curves_of(path)
    assert len(curves["step"]) == 50 and curves["step"][-1] == 120
    assert curves["ratio_max_largest"][-1] == 119 and curves["reward"][0] == pytest.approx(1.0)
    assert [value for value in curves["kl_to_start"] if value is not None] == [2.0]


def test_rank_correlation_and_its_interval() -> None:
    draw = np.random.default_rng(0)
    users, first = draw.integers(0, 50, size=2000), draw.normal(size=2000)
    second = np.exp(first)  # the same order
    assert spearman(first, second, users)["value"] == pytest.approx(1)
    unrelated = spearman(first, draw.normal(size=2000), users)
    assert unrelated["low"] < unrelated["value"] < unrelated["high"]
    assert abs(unrelated["value"]) < 0.1  # 4.5 standard errors of 1 / sqrt(2000)
    tied = spearman((first > 0).astype(float), first, users)
    frame = pl.DataFrame({"a": (first > 0).astype(float), "b": first})
    assert tied["value"] == pytest.approx(frame.select(pl.corr("a", "b", method="spearman")).item())


def test_the_top_of_a_batch_is_its_own() -> None:
    values, batches = np.array([1.0, 2, 3, 4, 10, 20, 30, 40]), np.repeat([0, 1], 4)
    assert top_of_batches(values, batches).tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("rows", [kuairand_rows(), beauty_rows()])
def test_every_row_is_a_config(rows: list[AlignmentRow], tmp_path: Path) -> None:
    by_name = {row.name: row for row in rows}
    assert len(by_name) == len(rows)
    for row in rows:
        start = by_name[row.start]
        assert row.against in by_name and not start.needs
        config_of(row.dataset, row.name, 17, settings_of(row, start, quick=False), tmp_path)
