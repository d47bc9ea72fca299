"""The ablation of the generator on a tiny log: every kind of row is measured, resumed, and compared on the same users."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import TINY, TinyRun

from benchmarks import generator_ablations
from benchmarks.generator_ablations import entries, markdown
from benchmarks.generators import ablation_cell
from benchmarks.generators.ablation_cell import EVERY_ITEM, AblationRow, settings_of
from benchmarks.study import runs
from benchmarks.study.cells import Cell, Row
from benchmarks.study.runs import config_of
from onerec.model.counting import count_parameters
from onerec.model.generator import Generator
from tokenizer.semantic_ids import SemanticIds

USERS = 300


@pytest.fixture
def tiny_table(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of few rows over the tiny log, whose dataset's name is returned."""
    mine = tiny_run.dataset.name
    rows = [
        AblationRow(mine, "base", "closing", "as shipped", against="base"),
        AblationRow(mine, "content_ids", "closing", "other IDs", ("tokenizer.collaborative.weight=0",), "base"),
        AblationRow(mine, "lazy", "decoders", "lazy", ("generator.decoder=lazy",), "base"),
        AblationRow(mine, "selection", "search", "selection", against="base", needs="base", search="selection"),
        AblationRow(mine, "beam_20", "search", "beam of 20", against="base", needs="base", beam_width=20),
        AblationRow(mine, "every_item", "search", "all", against="base", needs="base", search=EVERY_ITEM, users=40),
    ]
    monkeypatch.setenv("ONEREC_DATA", str(tiny_run.dataset.parent))
    budget = tuple(one for one in TINY if not one.startswith("baselines"))
    monkeypatch.setattr(ablation_cell, "BUDGET", {mine: (*budget, "tokenizer.quantizer.method=rq_kmeans")})
    monkeypatch.setitem(runs.CONFIG_FILES, mine, "own.yaml")
    monkeypatch.setattr(generator_ablations, "ROWS", {mine: lambda: rows})
    return mine


def run_table(monkeypatch: pytest.MonkeyPatch, folder: Path, dataset: str, *options: str) -> dict[str, Any]:
    out = folder / "out.json"
    argv = ["x", dataset, "--cells", str(folder / "cells"), "--out", str(out), *options]
    monkeypatch.setattr(sys, "argv", argv)
    assert generator_ablations.main() == 0
    return dict(json.loads(out.read_text(encoding="utf-8")))


def test_all_kinds_of_rows(
    tiny_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run"
    results = run_table(monkeypatch, tmp_path, tiny_table, "--seeds", "17", "--quick", "--run", str(run_folder))
    rows = {row["name"]: row for row in results["rows"]}
    assert list(rows) == ["base", "content_ids", "lazy", "selection", "beam_20", "every_item"]
    assert "difference" not in rows["base"]
    assert rows["base"]["trained"] and not rows["selection"]["trained"]
    assert rows["every_item"]["users"]["test"] == 40
    # 60 items and a beam of 50: nearly all are scored either way, and wider beams find the same best ones.
    assert abs(rows["every_item"]["difference"]["test"]["recall@10"]["value"]) < 0.1
    for row in rows.values():
        assert 0 <= row["test"]["ndcg@10"]["value"] <= row["test"]["recall@10"]["value"] <= 1
        assert row["cold"]["found"] <= row["cold"]["cases"]
    cells = tmp_path / "cells" / "quick" / tiny_table
    assert len([path for path in (cells / "ids").iterdir() if path.is_dir()]) == 2  # with co-occurrence, and without
    assert (cells / "base-17" / "run" / "generator").exists()  # other rows measure this generator
    assert not (cells / "lazy-17" / "run").exists()
    assert json.loads((run_folder / "ablations.json").read_text(encoding="utf-8")) == results
    capsys.readouterr()
    again = run_table(monkeypatch, tmp_path, tiny_table, "--seeds", "17", "--quick")
    assert "seed 17:" not in capsys.readouterr().out  # nothing was run anew
    assert again["rows"] == results["rows"]


def test_a_row_waits_for_the_generator_that_it_measures(
    tiny_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["x", tiny_table, "--cells", str(tmp_path), "--out", str(tmp_path / "o.json"), "--only", "beam_20"]
    monkeypatch.setattr(sys, "argv", argv)
    assert generator_ablations.main() == 1
    assert "row base is not finished" in capsys.readouterr().out


def finished_cell(folder: Path, row: Row, seed: int, hits: np.ndarray, users: np.ndarray) -> Cell:
    """A cell in which the given users find their target at rank 1."""
    figures = {"cases": len(users), "cold_cases": 2, "cold_hits@10": 1.0}
    facts = {"figures": {"valid": figures, "test": figures}, "commit": "abc", "dirty": False}
    facts |= {"parameters": {"total": 5, "active": 5, "layers": 1}, "seconds": {"training": 60.0, "lists": 5.0}}
    found = np.isin(users, hits).astype(float)
    sample = {"users": users, "recall@10": found, "ndcg@10": found}
    cell = Cell(row, seed, folder / f"{row.name}-{seed}")
    cell.write(facts, {"valid": sample, "test": sample})
    return cell


def test_a_row_is_compared_with_its_reference_on_the_users_of_both(tmp_path: Path) -> None:
    base, better, few = (AblationRow("d", name, "g", name, against="base") for name in ("base", "better", "few"))
    everyone = np.arange(USERS)[::-1].copy()
    finished = {
        base: {seed: finished_cell(tmp_path, base, seed, np.arange(100), everyone) for seed in (1, 2)},
        better: {seed: finished_cell(tmp_path, better, seed, np.arange(130), np.arange(USERS)) for seed in (1, 2)},
        few: {1: finished_cell(tmp_path, few, 1, np.arange(40), np.arange(50))},
        AblationRow("d", "none"): {},
    }
    rows = {row["name"]: row for row in entries(finished)}
    assert list(rows) == ["base", "better", "few"] and "difference" not in rows["base"]
    found = rows["better"]["difference"]["test"]["recall@10"]
    assert found["value"] == pytest.approx(30 / USERS) and 0 < found["low"] < found["value"] < found["high"]
    assert rows["better"]["by_seed"]["2"]["ndcg@10"] == pytest.approx(30 / USERS)
    # Of the 50 users of seed 1 that both have, all find theirs in the base and 40 here.
    assert rows["few"]["difference"]["valid"]["ndcg@10"]["value"] == pytest.approx(-0.2)
    run = {"seed": [1, 2], "seconds": 60.0, "machine": {"cores": 2}, "commit": "abc", "dirty": False, "command": "x"}
    assert "| better | .4333 | .4333 | +.1000" in markdown({"run": run, "rows": list(rows.values())})


@pytest.mark.parametrize("rows", [generator_ablations.beauty_rows(), generator_ablations.kuairand_rows()])
def test_every_row_is_a_valid_config_with_a_name_of_its_own(rows: list[Row], tmp_path: Path) -> None:
    names = [row.name for row in rows]
    by_name = {row.name: row for row in rows}
    assert len(by_name) == len(names)
    for place, row in enumerate(rows):
        trained = by_name[row.needs or row.name]
        config = config_of(row.dataset, row.name, 5, settings_of(trained, quick=False), tmp_path)
        assert config.seed == config.tokenizer.quantizer.seed == 5
        assert config.train.validate_every == config.train.epochs  # the last epoch's weights, for every row alike
        assert row.against in names
        assert not row.needs or row.needs in names[:place]  # what it measures is trained before it


def test_the_decoders_have_as_many_parameters_as_their_rows_say(tmp_path: Path) -> None:
    codes = np.stack(np.unravel_index(np.arange(0, 256**3, 60_000), (256,) * 3), axis=1).astype(np.int32)
    ids = SemanticIds(pl.Series(np.arange(len(codes))), codes, codes, [256] * 3)

    def layers(row: Row) -> int:
        config = config_of(row.dataset, row.name, 5, settings_of(row, quick=False), tmp_path)
        found = count_parameters(Generator(config.generator, ids))
        return found.active - found.parts["embeddings"] - found.parts["item_head"]

    rows = {row.name: row for row in generator_ablations.beauty_rows() if not row.needs}
    counted = {name: layers(row) for name, row in rows.items()}  # every row's generator can be made
    assert abs(counted["lazy"] - counted["base"]) < 200
    assert counted["experts"] - counted["base"] == 64 * 4  # the router; two experts of 64 do the work of one of 128
