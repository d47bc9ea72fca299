"""The alignment benchmark's pictures: well formed, every row named, values where the scales say, whatever rows there are."""

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import alignment_charts
from benchmarks.alignment_charts import HOLDS, pictures
from benchmarks.alignment_rows import DRIFT, LEGALITY, MAIN, kuairand_rows
from benchmarks.svg_labels import place_labels
from benchmarks.svg_lines import Box, linear_axis, log_axis
from benchmarks.svg_picture import palettes
from onerec.run.config import load_config

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("tradeoff", "legality", "gradients", "pass-at-k", "curves")
FORMATS = [f"format_{kind}{ending}" for ending in ("", "_1") for kind in ("none", "random", "top")]


def figure(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def objective(name: str, gain: float, recall: float, **more: Any) -> dict[str, Any]:
    found = {"difference": {"judge_gain": figure(gain), "recall@10": figure(recall, 0.002)}}
    passes = {
        "judge": {"1": figure(0.05), "2": figure(0.06), "4": figure(0.08)},
        "judge_difference": {"1": figure(0.002), "2": figure(0.003), "4": figure(gain / 10)},
        "hit_difference": {"1": figure(-0.01), "2": figure(0.0), "4": figure(0.02)},
    }
    curves = {"step": [10, 20, 30], "reward": [0.1, 0.2, 0.3], "kl_to_start": [-1e-9, None, 0.3]}
    curves |= {"entropy": [6.0, 5.0, 4.0], "items_in_batch": [0.5, 0.25, gain + 0.1]}
    label = f"<{name}> & co"
    row = {"name": name, "group": MAIN, "label": label, "start": "start", "beam": found, "pass_at_k": passes}
    return row | {"curves": curves} | more


def with_curves(name: str, group: str, **curves_of: list[float | None]) -> dict[str, Any]:
    return {"name": name, "group": group, "label": f"the row {name}", "curves": {"step": [10, 20, 30], **curves_of}}


def all_rows() -> list[dict[str, Any]]:
    start = {"pass_at_k": {"judge": {"1": figure(0.04), "2": figure(0.05), "4": figure(0.1)}}, "beam": {"test": {}}}
    start["curves"] = {}
    growing = {"ratio_max_largest": [1.0, 10.0, 1e30], "negative_coefficient_largest": [0.0, 0.0, 0.2]}
    growing["negative_gradient_norm_largest"] = [0.0, None, 0.5]
    return [
        objective("start", 0.01, 0.0, selection=objective("x", 0.03, -0.01)["beam"]) | start,
        objective("ecpo", 0.02, -0.001),
        objective("grpo", 0.02, -0.001),
        objective("one_more", -0.01, 0.004, selection=objective("x", 0.05, 0.002)["beam"]),
        *(with_curves(name, LEGALITY, legality=[0.8, None, 0.9]) for name in FORMATS),
        *(with_curves(f"drift_{name}", DRIFT, **growing) for name in ("ecpo", "grpo", "gbpo")),
        {"reward": "play time", "spearman": figure(0.1)},
    ]


def drawn(rows: list[dict[str, Any]]) -> dict[str, ElementTree.Element | None]:
    made = pictures({"rows": rows})
    return {
        name: None if (text := made[f"alignment-{name}.svg"]) is None else ElementTree.fromstring(text)
        for name in NAMES
    }


def titles(picture: ElementTree.Element) -> str:
    return "\n".join("".join(title.itertext()) for title in picture.iter(f"{SVG}title"))


def test_every_row_is_named_and_every_picture_stands_alone() -> None:
    made = drawn(all_rows())
    for picture in made.values():
        assert picture is not None
        assert picture.findtext(f"{SVG}title") and picture.findtext(f"{SVG}desc")
        assert not list(picture.iter(f"{SVG}script"))
        style = str(picture.findtext(f"{SVG}style"))
        light, dark = palettes()
        assert "prefers-color-scheme: dark" in style and "url(" not in style and "var(" not in style
        assert all(colours["s0"] in style and colours["paper"] in style for colours in (light, dark))
    named = {name: titles(picture) for name, picture in made.items() if picture is not None}
    shown = ["".join(text.itertext()) for text in (made["tradeoff"] or []) if text.get("class") == "label"]
    # Of the start only what selection makes of it; of the last both.
    assert sorted(shown) == sorted(f"<{name}> & co" for name in ("ecpo", "grpo", "one_more", "start", "one_more"))
    assert all(f"<{name}> & co" in named["pass-at-k"] for name in ("ecpo", "grpo", "one_more"))
    assert all(f"<{name}> & co" in named["curves"] for name in ("ecpo", "grpo", "one_more"))
    assert "<start>" not in named["pass-at-k"] + named["curves"]
    assert all(f"the row {name}" in named["legality"] for name in FORMATS)
    assert all(f"the row drift_{name}" in named["gradients"] for name in ("ecpo", "grpo", "gbpo"))


@given(st.sets(st.integers(0, len(all_rows()) - 1)))
def test_missing_rows_are_left_out(kept: set[int]) -> None:
    rows = [row for place, row in enumerate(all_rows()) if place in kept]
    present = {str(row.get("name")) for row in rows}
    made = drawn(rows)
    assert (made["tradeoff"] is None) == present.isdisjoint({"start", "ecpo", "grpo", "one_more"})
    assert (made["legality"] is None) == present.isdisjoint(FORMATS)
    assert (made["gradients"] is None) == (not any(name.startswith("drift") for name in present))
    assert (made["curves"] is None) == present.isdisjoint({"ecpo", "grpo", "one_more"})
    for row in rows:
        if row.get("group") in (LEGALITY, DRIFT):
            picture = made["legality" if row["group"] == LEGALITY else "gradients"]
            assert picture is not None and row["label"] in titles(picture)


def test_whiskers_end_where_the_scales_say() -> None:
    picture = drawn([objective("ecpo", 0.02, -0.001)])["tradeoff"]
    assert picture is not None
    across, up = (one for one in picture.iter(f"{SVG}line") if "whisker" in str(one.get("class")))
    x, y = linear_axis([0, 1, 2, 3], 58, 740), linear_axis([-0.003, 0, 0.001], 308, 48)
    ends = [float(str(across.get(name))) for name in ("x1", "x2")] + [float(str(up.get(name))) for name in ("y1", "y2")]
    expected = [x.scale(1), x.scale(3), y.scale(-0.003), y.scale(0.001)]
    assert ends == pytest.approx(expected, abs=0.06)
    (dot,) = picture.iter(f"{SVG}circle")
    place = [float(str(dot.get(name))) for name in ("cx", "cy")]
    assert place == pytest.approx([x.scale(2), y.scale(-0.001)], abs=0.06)


def test_logarithmic_panels_have_every_value_that_a_logarithm_has() -> None:
    row = with_curves(
        "drift_grpo", DRIFT, ratio_max_largest=[1.0, float("inf"), 1e30], negative_coefficient_largest=[0.0] * 3
    )
    picture = drawn([row])["gradients"]
    assert picture is not None
    (path,) = (one for one in picture.iter(f"{SVG}path"))  # nothing of what is 0 throughout
    y = log_axis([1.0, 1e30], 330, 80)  # below a legend of one row
    assert heights(path) == pytest.approx([y.scale(1.0), y.scale(1e30)], abs=0.06)


def heights(path: ElementTree.Element) -> list[float]:
    return [float(step.split()[1]) for step in str(path.get("d")).replace("L", "M").split("M")[1:]]


def test_curves_share_an_axis_where_rewards_are_the_same() -> None:
    """A reward that is made of other things, or weighs 1e-9, would press the others into a line."""
    other = objective("next_code", 0.0, 0.0, settings=["align.rewards.p_score=1e-9"])
    picture = drawn([objective("ecpo", 0.02, 0.0, settings=["align.objective=ecpo"]), other])["curves"]
    assert picture is not None
    panels = str(picture.findtext(f"{SVG}desc")).split(". ")
    assert ["<next_code>" in panel for panel in panels] == [False, True, True, True]
    assert "<ecpo> & co, 0.3 at step 30" in panels[0] and "<ecpo> & co, 12 at step 30" in panels[3]
    # Two columns and two rows of panels, none above another.
    places = [(one.get("x"), one.get("y")) for one in picture.iter(f"{SVG}text") if one.get("class") == "heading"]
    assert len(set(places)) == 4 and len({x for x, _ in places}) == len({y for _, y in places}) == 2


def test_outside_the_band_intervals_leave_out_zero() -> None:
    passes = {"hit_difference": {"1": {"value": 0.02, "low": 0.015, "high": 0.06}, "2": figure(-0.01, 0.03)}}
    picture = drawn([objective("ecpo", 0.02, 0.0, pass_at_k=passes)])["pass-at-k"]
    assert picture is not None
    (band,) = (one for one in picture.iter(f"{SVG}polygon") if one.get("class") == "band")
    corners = [tuple(map(float, corner.split(","))) for corner in str(band.get("points")).split()]
    y = linear_axis([0.0, 2.0, -1.0], 330, 80)
    # At K = 1 from 2 - 6 to 2 - 1.5, at K = 2 three points either way; cut off where the axis ends.
    expected = [330, 330, 80, y.scale(0.5)]
    assert [up for _, up in corners] == pytest.approx(expected, abs=0.06)


def test_pass_at_k_is_relative_to_the_start() -> None:
    rows = [row for row in all_rows() if row.get("name") in ("start", "ecpo")]
    said = told(rows)
    # .002 more than the start's .1, and .02 of the users.
    assert "<ecpo> & co, +2.00 at K 4" in said[0] and "<ecpo> & co, +2.00 at K 4" in said[1]
    # Without the start's row nothing can be relative to it; differences in hits need no more than themselves.
    assert told(rows[1:]) == said[1:]


def told(rows: list[dict[str, Any]]) -> list[str]:
    """What the picture of Pass@K says of each panel."""
    picture = drawn(rows)["pass-at-k"]
    assert picture is not None
    return str(picture.findtext(f"{SVG}desc")).rstrip(".").split(". ")


@given(st.lists(st.tuples(st.floats(100, 500), st.floats(50, 350)), min_size=1, max_size=7))
def test_labels_do_not_cover_each_other(points: list[tuple[float, float]]) -> None:
    area = Box(0, 0, 700, 400)
    boxes = place_labels(points, [90.0] * len(points), [Box(x, y, x + 60, y) for x, y in points], area)
    for place, box in enumerate(boxes):
        assert area.holds(box) and not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert not any(box.left < x < box.right and box.top < y < box.bottom for x, y in points)


def test_names_are_those_of_the_benchmark_and_of_its_config() -> None:
    rows = {row.name: row for row in kuairand_rows()}
    assert {*FORMATS, *alignment_charts.DRIFTS, *alignment_charts.STYLES} <= rows.keys()
    for name in alignment_charts.FORMATS:
        # Where there is no format reward, nothing has ten times its weight.
        assert {name + ending for ending in HOLDS} - {"format_none_10"} <= rows.keys()
    weight = load_config(Path("configs/kuairand.yaml")).align.next_code.weight
    assert [HOLDS[""], HOLDS["_1"]] == [f"Next-code loss x {weight:g}", "Next-code loss x 1"]


def test_palettes_are_complete() -> None:
    light, dark = palettes()
    assert light.keys() == dark.keys() >= {"paper", "ink", "rule", *(f"s{style}" for style in range(9))}
    assert all(light[name] != dark[name] for name in light)


def run(monkeypatch: pytest.MonkeyPatch, path: Path, out: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["x", str(path), "--out", str(out)])
    return alignment_charts.main()


def test_command_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "alignment.json", tmp_path / "docs" / "figures"
    path.write_text(json.dumps({"rows": [row for row in all_rows() if row.get("group") == LEGALITY]}))
    assert run(monkeypatch, path, out) == 0
    assert [found.name for found in out.iterdir()] == ["alignment-legality.svg"]
    said = capsys.readouterr().out
    assert all((f"alignment-{name}.svg left out" in said) == (name != "legality") for name in NAMES)
    path.write_text('{"rows": []}')
    assert run(monkeypatch, path, out) == 1
    path.write_text("[]")
    with pytest.raises(SystemExit):
        run(monkeypatch, path, out)
    assert "holds no rows" in capsys.readouterr().err
