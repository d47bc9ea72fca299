"""The benchmark of recall on a tiny log: the file it writes has the one shape that every reader expects."""

import json
import sys
from pathlib import Path

import pytest
from command_line import CONFIGS, TINY, TinyRun

from benchmarks import recall
from benchmarks.result_tables import table
from benchmarks.results_file import write_results_file


def test_the_results_file(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEREC_DATA", str(tiny_run.dataset.parent))
    out = tmp_path / "results" / "tiny.json"
    overrides = [*TINY, "name=tiny"]
    options = ["--dataset", tiny_run.dataset.name, "--runs", str(tmp_path / "runs"), "--out", str(out), "--quick"]
    monkeypatch.setattr(sys, "argv", ["recall", str(CONFIGS / "own.yaml"), *overrides, *options])
    assert recall.main() == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["run"]["quick"] is True
    assert "examples" not in results
    assert results["run"]["command"].startswith("python -m benchmarks.recall")
    assert results["run"]["config"]["dataset"]["folder"] == tiny_run.dataset.name
    assert {"low", "value", "high"} == set(results["figures"]["test_recall@10_onerec"])
    assert "onerec_minus_item_knn_ndcg@10" in results["figures"]
    assert [row["model"] for row in results["rows"]] == [
        "OneRec",
        "OneRec + selection",
        "SASRec",
        "Item-kNN",
        "Content-kNN",
        "Popularity",
    ]
    shown = table(results)
    assert shown.count("\n| ") == 6
    assert f"{results['models']['onerec']['test']['recall@10']['value']:.4f}".removeprefix("0") in shown


def test_a_results_file_without_its_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="figures, run"):
        write_results_file(tmp_path / "x.json", {"rows": []})
    assert not (tmp_path / "x.json").exists()
