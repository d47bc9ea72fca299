"""The reward model's benchmark on a log with a planted preference: other users alone, every seed, a table."""

import json
import sys
from pathlib import Path

import pytest
from command_line import TINY
from reward_data import QUICK, SIGNALS, planted_events, write_planted

from benchmarks import reward_model


def test_every_objective_of_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planted(tmp_path / "data" / "planted", planted_events(60))
    monkeypatch.setenv("ONEREC_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(reward_model, "DATASET", "planted")
    monkeypatch.setattr(reward_model, "CONFIG", "own.yaml")
    out = tmp_path / "out.json"
    options = ["--out", str(out), "--runs", str(tmp_path / "runs"), "--seeds", "3", "4", "--quick"]
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
    assert not (tmp_path / "runs" / "planted-3" / "generator").exists()
    assert "wrote" in capsys.readouterr().out
