"""The benchmark of recall on a tiny log: the file it writes has the one shape that every reader expects."""

import json
import sys
from pathlib import Path

import pytest
from command_line import CONFIGS, TINY, TinyRun

from benchmarks import recall
from benchmarks.output.results_file import write_results_file
from benchmarks.recall import differences_of, markdown


def test_the_results_file(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEREC_DATA", str(tiny_run.dataset.parent))
    out = tmp_path / "results" / "tiny.json"
    overrides = [*TINY, "name=tiny"]
    options = ["--dataset", tiny_run.dataset.name, "--runs", str(tmp_path / "runs"), "--out", str(out), "--quick"]
    monkeypatch.setattr(sys, "argv", ["recall", str(CONFIGS / "own.yaml"), *overrides, *options])
    assert recall.main() == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["run"]["quick"] is True
    assert "examples" not in results and "code_load" not in results["semantic_ids"]
    assert results["run"]["command"].startswith("python -m benchmarks.recall")
    assert results["run"]["config"]["dataset"]["folder"] == tiny_run.dataset.name
    assert {"low", "value", "high"} == set(results["figures"]["onerec_minus_item_knn_ndcg@10"])
    rows = {row["model"]: row for row in results["rows"]}
    assert list(rows) == ["onerec", "onerec_selection", "sasrec", "item_knn", "content_knn", "popularity"]
    ours, theirs = (rows[name]["test"]["recall@10"]["value"] for name in ("onerec", "sasrec"))
    difference = differences_of(results, "recall@10")["onerec", "sasrec"]
    assert difference["value"] == pytest.approx(ours - theirs)
    shown = markdown(results)
    assert shown.count("\n| ") == 6 and shown.count(" − ") == 9
    assert f"{ours:.4f}".removeprefix("0") in shown


def test_a_results_file_has_a_line_for_each_row_and_loses_no_digit(tmp_path: Path) -> None:
    rows = [{"name": "a" * 60, "figure": {"value": 0.1 + 0.2, "low": None}}, {"name": "ü" * 60, "figure": 1e-30}]
    content = {"run": {"seed": 17, "command": "python -m x " * 20}, "figures": {}, "rows": rows}
    write_results_file(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert len(text.splitlines()) == 2 + 4 + 1 + 4


def test_a_results_file_without_its_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="figures, run"):
        write_results_file(tmp_path / "x.json", {"rows": []})
    assert not (tmp_path / "x.json").exists()
