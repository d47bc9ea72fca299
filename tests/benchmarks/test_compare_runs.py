"""Two runs are equal until one bit of a figure, a list or a weight differs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import TinyRun, results_of

from benchmarks import compare_runs

LISTS, WEIGHTS = Path("lists/onerec/lists.npz"), Path("generator/model/model.safetensors")


def compared(monkeypatch: pytest.MonkeyPatch, old: TinyRun, new: TinyRun) -> int:
    monkeypatch.setattr(sys, "argv", ["x", str(old.folder), str(new.folder)])
    return compare_runs.main()


def test_a_single_bit_is_found_and_times_are_not_compared(
    tiny_run: TinyRun, tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(tiny_copy.folder)
    results["run"]["seed"] += 1
    results["models"]["onerec"]["train_seconds"] += 1
    results["models"]["onerec"]["label"] = "another word"
    (tiny_copy.folder / "results.json").write_text(json.dumps(results))
    assert compared(monkeypatch, tiny_run, tiny_copy) == 0
    said = capsys.readouterr().out
    assert "figures: 0" not in said and said.count(", 0 differ") == 3

    recall = results["models"]["onerec"]["test"]["recall@10"]
    changed = recall | {"value": float(np.nextafter(recall["value"], 1)), "more": 1}
    results["models"]["onerec"]["test"]["recall@10"] = changed
    (tiny_copy.folder / "results.json").write_text(json.dumps(results))
    with np.load(tiny_copy.folder / LISTS) as stored:
        arrays = dict(stored)
    arrays["test"][0, 0] += 1
    arrays["fit_seconds"] += 1
    np.savez(tiny_copy.folder / LISTS, **arrays)
    weights = bytearray((tiny_copy.folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tiny_copy.folder / WEIGHTS).write_bytes(weights)
    assert compared(monkeypatch, tiny_run, tiny_copy) == 1
    said = capsys.readouterr().out
    name = "results.json models onerec test recall@10"
    assert f"2 differ\n  {name} more: only in the new run\n  {name} value: {recall['value']} and " in said
    assert f"1 differ\n  {LISTS} test: 1 of {arrays['test'].size:,} differ" in said
    assert f"1 differ\n  {WEIGHTS}: 1 of {len(weights):,} differ" in said


def test_a_folder_without_results_is_refused(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compared(monkeypatch, tiny_run, TinyRun(tmp_path, tmp_path, "", ""))
    assert f"{tmp_path}: no results.json there" in capsys.readouterr().err
