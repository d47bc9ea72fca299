"""The studies that benchmarks leave in a run's folder: shown as figures when they are there, and absent otherwise."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pages import around, charts_of

from onerec.errors import UserError
from onerec.report.report import write_report
from onerec.report.studies import ablation_section, scaling_section

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
LAW = {"irreducible": around(4.0), "coefficient": 50.0, "alpha": {"value": 0.5, "low": 0.4, "high": 0.6}}
SCALING: dict[str, Any] = {
    "rows": [
        {"width": size // 100, "parameters": {"without_tables": size, "total": 9}, "losses": [4 + 50 / size**0.5] * 2}
        for size in (10_000, 40_000, 160_000)
    ],
    "fits": {"parameters": LAW},
}


def page(folder: Path, **studies: Any) -> str:
    (folder / "results.json").write_text(json.dumps({"run": {"name": "demo"}}), encoding="utf-8")
    for name, study in studies.items():
        (folder / f"{name}.json").write_text(json.dumps(study), encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def test_a_run_without_studies_shows_none(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert 'id="ablations"' not in text and 'id="scaling"' not in text
    text = page(tmp_path, ablations={"rows": [ABLATIONS["rows"][0]]}, scaling={"rows": SCALING["rows"][:1]})
    assert 'id="ablations"' not in text, "a base alone has nothing to differ from"
    assert 'id="scaling"' not in text, "one size is no curve"


def test_studies_are_figures_of_the_page(tmp_path: Path) -> None:
    text = page(tmp_path, ablations=ABLATIONS, scaling=SCALING)
    for name in ("ablations", "scaling"):
        assert f'<section id="{name}"' in text and f'href="#{name}"' in text
    assert len(charts_of(text)) == 3  # two headings of ablations, one curve
    assert HOSTILE not in text and "&lt;b&gt;without" in text
    shown = ["seeds 17, 18", "−.0200", "−.0300 to −.0100", "beam of 300, against: less", "2 min 5 s", "1,234,567"]
    assert [words for words in (*shown, "0.5 (0.4–0.6)") if words not in text] == []


def test_rows_that_train_nothing_have_no_seconds_of_training() -> None:
    section = ablation_section(ABLATIONS)
    assert section is not None
    rows = {row["label"]: row for group in section["groups"].values() for row in group}
    assert rows["as shipped"]["seconds"] == 125.0
    assert rows["beam of 300, against: less"]["seconds"] is None
    assert [mark.style for mark in rows[HOSTILE]["marks"]] == [0, 1]


def test_the_law_runs_through_points_that_obey_it() -> None:
    section = scaling_section(SCALING)
    assert section is not None and section["sizes"] == 3
    root = ElementTree.fromstring(str(section["chart"]["chart"]))
    (path,) = root.iter("path")
    ends = [tuple(map(float, one.split())) for one in re.split("[ML]", str(path.get("d")))[1:]]
    dots = [(float(str(dot.get("cx"))), float(str(dot.get("cy")))) for dot in root.iter("circle")]
    assert ends[0] == dots[0] and ends[-1] == dots[-1]
    without = {**SCALING, "fits": {"parameters": {"alpha": 0.5}}}
    assert "<path" not in str((scaling_section(without) or {})["chart"]["chart"])


def test_a_broken_study_is_named(tmp_path: Path) -> None:
    page(tmp_path)
    (tmp_path / "scaling.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"scaling\.json.*line 1"):
        write_report(tmp_path)
