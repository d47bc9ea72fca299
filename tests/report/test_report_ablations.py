"""The ablations that a benchmark leaves in a run's folder: shown as figures when they are there, and absent otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
from pages import around, charts_of, page_of

from onerec.errors import UserError
from onerec.report.ablations import ablation_section

HOSTILE = "<b>without</b>"


def row(name: str, label: str, value: float, **more: Any) -> dict[str, Any]:
    shared = {"group": "pathways", "against": "base", "trained": True, "parameters": {"total": 1234567}}
    seconds = {"training": 125.0, "lists": 9.0}
    return {"name": name, "label": label, "test": {"ndcg@10": around(value)}, "seconds": seconds, **shared, **more}


WORSE = {"test": {"ndcg@10": around(-0.02)}, "valid": {"ndcg@10": around(-0.03)}}
BETTER = {"test": {"ndcg@10": around(0.04)}}
ABLATIONS: dict[str, Any] = {
    "run": {"seed": [17, 18], "command": "python -m benchmarks.generator_ablations", "quick": False},
    "rows": [
        row("base", "as shipped", 0.06),
        row("less", HOSTILE, 0.04, difference=WORSE),
        row("wide", "beam of 300", 0.08, difference=BETTER, against="less", group="search", trained=False),
    ],
}


def page(folder: Path, study: dict[str, Any] | None = None) -> str:
    if study is not None:
        (folder / "ablations.json").write_text(json.dumps(study), encoding="utf-8")
    return page_of(folder, {"run": {"name": "demo"}})


def test_a_run_without_ablations_shows_none(tmp_path: Path) -> None:
    assert 'id="ablations"' not in page(tmp_path)
    text = page(tmp_path, {"rows": ABLATIONS["rows"][:1]})
    assert 'id="ablations"' not in text, "a base alone has nothing to differ from"


def test_ablations_are_figures_of_the_page(tmp_path: Path) -> None:
    text = page(tmp_path, ABLATIONS)
    assert '<section id="ablations"' in text and 'href="#ablations"' in text
    assert len(charts_of(text)) == 2  # one a heading
    assert HOSTILE not in text and "&lt;b&gt;without" in text
    shown = ["seeds 17, 18", "−.0200", "−.0300 to −.0100", "beam of 300, against: less", "2 min 5 s", "1,234,567"]
    assert [words for words in shown if words not in text] == []


def test_rows_that_train_nothing_have_no_seconds_of_training() -> None:
    section = ablation_section(ABLATIONS)
    assert section is not None
    rows = {row["label"]: row for group in section["groups"].values() for row in group}
    assert rows["as shipped"]["seconds"] == 125.0
    assert rows["beam of 300, against: less"]["seconds"] is None
    assert [mark.style for mark in rows[HOSTILE]["marks"]] == [0, 1]


def test_a_broken_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "ablations.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"ablations\.json.*line 1"):
        page(tmp_path)
