"""The report's section on rewards: curves of alignment, the judge's view, reward selection and reward models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import around, charts_of, page_of, section_of

from onerec.report.report import read_alignment_logs

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def results() -> dict[str, Any]:
    test = {"recall@10": around(0.1), "ndcg@10": around(0.05)}
    objective = {
        "positives": 4321,
        "auc": {"tower": around(0.7123), "fusion": around(0.6987), "sum": around(0.6912)},
        "gauc": {"tower": around(0.6543), "fusion": None, "sum": None},
        "calibration": {"ratio": 1.23, "error": 0.01},
    }
    return {
        "judge": "reward model of second users",
        "models": {
            "onerec": {"label": "OneRec", "own": True, "test": {**test, "p_score@10": around(0.3111)}},
            "onerec_aligned": {"label": "OneRec aligned", "own": True, "test": {**test, "p_score@10": around(0.3222)}},
            "onerec_reward_selection": {
                "label": "OneRec + reward selection",
                "own": True,
                "test": {**test, "p_score@10": around(0.3333)},
                "reward_selection": {"weight": 2 / 3, "beam_width": 128, "cases": 517},
            },
        },
        "paired": {"onerec_aligned - onerec": {"ndcg@10": around(0.0), "p_score@10": around(0.0111)}},
        "reward_models": {
            "reward_first": {
                "half": "first",
                "objectives": ["long_view", HOSTILE, "unmeasured"],
                "all": {"impressions": 98765, "long_view": objective, HOSTILE: objective},
                "others": {"impressions": 1234, "long_view": objective},
            }
        },
    }


def write_alignment(folder: Path, objective: str, generator: str) -> None:
    aligned = folder / f"aligned_{objective}"
    aligned.mkdir()
    lines = [
        {"step": step, "reward": 0.1 + step / 100, "legality": 1.0, "entropy": 6.0 - step / 10, "ratio_max": 1.0 + step}
        | ({"kl_to_start": step / 7} if step % 10 == 1 else {})
        for step in range(1, 31)
    ]
    (aligned / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 31, "rew', encoding="utf-8")
    (aligned / "training.json").write_text(json.dumps({"generator": generator}), encoding="utf-8")


def test_everything_that_was_measured_is_shown(tmp_path: Path, results: dict[str, Any]) -> None:
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "stage.json").write_text('{"key": "now"}', encoding="utf-8")
    write_alignment(tmp_path, "ecpo", "now")
    page = page_of(tmp_path, results)
    shown = section_of(page, "rewards")
    assert 'href="#rewards"' in page
    assert len(charts_of(shown)) == 5 + 1  # a curve per figure in the log, and the judge's
    texts = ["Alignment by ECPO", "from 0.11 to 0.4 at step 30", "step 21: 3", "517 validation cases"]
    texts += ["The judge is the reward model of second users", "long view", "1.23", ".7123", ".6543", ".6987", ".6912"]
    texts += [
        "of a beam of 128, the reward model's score counts 0.67",
        "users that it learnt nothing from, 1,234 impressions",
    ]
    texts += ["learnt from the first half of the users: all test users, 98,765 impressions"]
    assert [words for words in texts if words not in shown] == []
    assert "unmeasured" not in shown and HOSTILE not in page
    order = [shown.index(f"{model['label']}</text>") for model in reversed(results["models"].values())]
    assert order == sorted(order)  # the judge's favourite first
    assert ".3333" in re.sub(re.escape(shown), "", page)  # beside the other figures too
    assert "P-Score@10" in page and "+.0111" in page


def test_an_alignment_of_another_generator_is_not_of_this_run(tmp_path: Path, results: dict[str, Any]) -> None:
    write_alignment(tmp_path, "ecpo", "now")
    assert read_alignment_logs(tmp_path) == {}
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "stage.json").write_text('{"key": "now"}', encoding="utf-8")
    write_alignment(tmp_path, "gbpo", "before")
    write_alignment(tmp_path, "dpo", "now")
    (tmp_path / "aligned_dpo" / "training.json").unlink()  # not finished
    assert list(read_alignment_logs(tmp_path)) == ["ecpo"]
    assert len(read_alignment_logs(tmp_path)["ecpo"]) == 30
    assert "GBPO" not in page_of(tmp_path, results)


def test_without_such_stages_there_is_no_section(tmp_path: Path, results: dict[str, Any]) -> None:
    for model in results["models"].values():
        model["test"].pop("p_score@10")
        model.pop("reward_selection", None)
    results |= {"judge": None, "reward_models": {}}
    page = page_of(tmp_path, results)
    assert 'id="rewards"' not in page and 'href="#rewards"' not in page
    assert "The judge" not in page
