"""Charts of the alignment benchmark: every row is shown, missing rows are left out, and the same rows give the same bytes."""

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import CONFIGS

from benchmarks.alignment import charts
from benchmarks.alignment.charts import CHARTS, FORMATS, HOLDS, STYLES, smaller, write_chart
from benchmarks.alignment.rows import DRIFT, LEGALITY, MAIN, kuairand_rows
from onerec.run.config_files import load_config

pytest.importorskip("matplotlib")
SVG = "{http://www.w3.org/2000/svg}"


def figure(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def objective(name: str, gain: float, recall: float, **more: Any) -> dict[str, Any]:
    found = {"difference": {"judge_gain": figure(gain), "recall@10": figure(recall, 0.002)}}
    passes = {kind: {"1": figure(0.05), "2": figure(0.06)} for kind in ("judge", "hit")}
    passes |= {"judge_difference": {"1": figure(0.002), "2": figure(gain)}, "hit_difference": {"1": figure(-0.01)}}
    curves = {"step": [10, 20, 30], "reward": [0.1, 0.2, 0.3], "kl_to_start": [-1e-9, None, 0.3]}
    label = f"<{name}> & co"
    row = {"name": name, "group": MAIN, "label": label, "start": "start", "beam": found, "pass_at_k": passes}
    return row | {"curves": curves} | more


def rows() -> dict[str, Any]:
    start = objective("start", 0, 0, beam={}, curves={}, pass_at_k={"judge": {"1": figure(0.04), "2": figure(0.05)}})
    made = [start, objective("ecpo", 0.02, -0.001), objective("one_more", 0.04, 0.001, selection=start["beam"])]
    curves = {"step": [10, 20, 30], "legality": [0.8, None, 0.9], "ratio_max_largest": [1.0, 0.0, 1e30]}
    made += [{"name": f"{name}_1", "group": LEGALITY, "label": f"row {name}", "curves": curves} for name in FORMATS]
    made += [{"name": "drift_grpo", "group": DRIFT, "label": "row drift", "curves": curves}]
    return {row["name"]: row for row in made}


def words(path: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_every_row_is_shown_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    objectives = {"<ecpo> & co", "<one_more> & co"}
    expected = {"legality": {f"row {name}" for name in FORMATS}, "gradients": {"row drift"}}
    for name in CHARTS:
        first, second = tmp_path / f"{name}-1.svg", tmp_path / f"{name}-2.svg"
        assert write_chart(name, rows(), first) and write_chart(name, rows(), second)
        assert expected.get(name, objectives) <= set(words(first))
        assert first.read_bytes() == second.read_bytes() and len(first.read_bytes()) < 60_000
    assert "<start> & co" not in words(tmp_path / "curves-1.svg"), "a row without a curve has no place in the legend"


def test_words_keep_their_digits_when_coordinates_lose_theirs() -> None:
    assert smaller('<g>\n  <path d="M 1.23456 \n-2.98765"/>\n <text x="3.14159">0.0025</text>\n</g>') == (
        '<g><path d="M 1.2 -3.0"/>\n<text x="3.1">0.0025</text></g>'
    )


def test_rewards_that_are_made_of_other_things_are_not_on_the_same_axis(tmp_path: Path) -> None:
    other = objective("next_code", 0, 0, settings=["align.rewards.p_score=1e-9"])
    other["curves"] = {"step": [10], "reward": [0.1]}
    assert not write_chart("curves", {"next_code": other}, tmp_path / "x.svg") and not list(tmp_path.iterdir())


def test_names_are_those_of_the_benchmark_and_of_its_config() -> None:
    names = {row.name for row in kuairand_rows()}
    assert {*STYLES, *(f"drift_{name}" for name in ("ecpo", "grpo", "gbpo"))} <= names
    # Without a format reward nothing has ten times its weight.
    assert {name + ending for name in FORMATS for ending in HOLDS} - {"format_none_10"} <= names
    weight = load_config(CONFIGS / "kuairand.yaml").align.next_code.weight
    assert [HOLDS[""], HOLDS["_1"]] == [f"Next-code loss x {weight:g}", "Next-code loss x 1"]


def test_the_command_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "alignment.json", tmp_path / "docs" / "figures"
    monkeypatch.setattr(sys, "argv", ["x", str(path), "--out", str(out)])
    path.write_text(json.dumps({"rows": [row for row in rows().values() if row["group"] == LEGALITY]}))
    assert charts.main() == 0
    assert [found.name for found in out.iterdir()] == ["alignment-legality.svg"]
    said = capsys.readouterr().out
    assert all((f"alignment-{name}.svg left out" in said) == (name != "legality") for name in CHARTS)
    path.write_text('{"rows": [{"reward": "play time"}]}')
    assert charts.main() == 1
