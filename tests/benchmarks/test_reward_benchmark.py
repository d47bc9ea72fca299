"""The reward model's benchmark on a log with a planted preference: other users alone, every seed, a table."""

import json
import sys
from pathlib import Path

import pytest
from command_line import TINY
from reward_data import QUICK, SIGNALS, planted_events, write_planted

from benchmarks import reward_model
from benchmarks.study import runs


def test_every_objective_of_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planted(tmp_path / "data" / "planted", planted_events(60))
    monkeypatch.setenv("ONEREC_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(reward_model, "DATASET", "planted")
    monkeypatch.setitem(runs.CONFIG_FILES, "planted", "own.yaml")
    out = tmp_path / "out.json"
    options = ["--out", str(out), "--cells", str(tmp_path / "runs"), "--seeds", "3", "4", "--quick"]
    monkeypatch.setattr(sys, "argv", ["x", *TINY, *QUICK, "reward.train.epochs=1", *options])
    assert reward_model.main() == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["objective"]: row for row in results["rows"]}
    assert list(rows) == SIGNALS
    for row in rows.values():
        assert list(row["seeds"]) == ["3", "4"]
        assert row["seeds"]["3"]["tower"] == row["auc"]["tower"]["value"]
    assert results["figures"]["fusion_minus_sum_auc_like"] == rows["like"]["auc"]["fusion - sum"]
    assert 0 < results["run"]["users"] < 60  # those of the other half
    assert "| `like` |" in reward_model.markdown(results)
    cells = tmp_path / "runs" / "quick" / "planted"
    assert (cells / "first-3" / "run" / "reward_first").exists() and not (
        cells / "first-3" / "run" / "generator"
    ).exists()
    again = json.loads(out.read_text(encoding="utf-8")) if reward_model.main() == 0 else {}
    assert again["rows"] == results["rows"]
    assert "wrote" in capsys.readouterr().out
