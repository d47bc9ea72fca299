"""Charts put numbers where they belong, and stay well formed for odd ones."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerec.report import charts
from onerec.report.charts import Interval, Mark, Row, Scale
from onerec.report.values import count, figure


def test_whiskers_end_where_the_interval_does() -> None:
    rows = [
        Row("a", (Mark("a", Interval(0.10, 0.08, 0.12), 0),)),
        Row("b", (Mark("b", Interval(-0.02, -0.04, 0.01), 1),)),
    ]
    root = ElementTree.fromstring(str(charts.interval_chart("title", rows, figure, width=402)["chart"]))
    # Range -0.04 … 0.12 with 4 % of air on both sides, drawn on 1 … 401.
    scale = Scale(-0.04 - 0.0064, 0.12 + 0.0064, 1, 401)
    whiskers = [line for line in root.iter("line") if "whisker" in str(line.get("class"))]
    ends = [(float(str(line.get("x1"))), float(str(line.get("x2")))) for line in whiskers]
    assert ends == [
        (pytest.approx(scale(0.08), abs=0.06), pytest.approx(scale(0.12), abs=0.06)),
        (pytest.approx(scale(-0.04), abs=0.06), pytest.approx(scale(0.01), abs=0.06)),
    ]
    (dot,) = root.iter("circle")
    assert float(str(dot.get("cx"))) == pytest.approx(scale(0.10), abs=0.06)
    (zero,) = (line for line in root.iter("line") if line.get("class") == "zero")
    assert float(str(zero.get("x1"))) == pytest.approx(scale(0), abs=0.06)
    assert ".0800 to .1200" in str(root.findtext("./g/title"))
    alone = ElementTree.fromstring(str(charts.interval_chart("title", rows[:1], figure)["chart"]))
    (zero,) = (line for line in alone.iter("line") if line.get("class") == "zero")
    assert float(str(zero.get("x1"))) == 1.0, "the axis begins at zero for positive figures"


def boxes(drawing: str) -> list[tuple[str, float, float, float, float]]:
    """Each text of a chart with the rectangle that it covers: left, right, top, bottom."""
    found = []
    for text in ElementTree.fromstring(drawing).iter("text"):
        x, y, words = float(str(text.get("x"))), float(str(text.get("y"))), str(text.text)
        width = len(words) * charts.LETTER
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[str(text.get("text-anchor"))]
        found.append((words, left, left + width, y - 10, y + 3))
    return found


def test_no_text_of_an_interval_chart_covers_another() -> None:
    long = "a model whose name is far too long for one line beside its figure, with + everything, aligned"
    marks = (Mark("a", Interval(0.1, -0.08, 0.12), 0), Mark("b", Interval(0.05), 1))
    rows = [Row(long, marks[:1], "+.0044 level"), Row("short", marks, "+.1234 above"), Row(long * 2, marks[:1], "")]
    drawing = str(charts.interval_chart("title", rows, figure)["chart"])
    found = boxes(drawing)
    assert "".join(words for words, *_ in found[-99:]).count("far too long") == 3
    for place, (words, left, right, top, bottom) in enumerate(found):
        assert left >= -4 and right <= 404, words
        for other, left2, right2, top2, bottom2 in found[place + 1 :]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top, f"{words} covers {other}"
    marks_at = [float(str(dot.get("cy"))) for dot in ElementTree.fromstring(drawing).iter("circle")]
    assert all(not top < y < bottom for y in marks_at for *_, top, bottom in found), "no mark stands on a text"


def test_load_chart_draws_bars_in_proportion() -> None:
    root = ElementTree.fromstring(str(charts.load_chart([2, 8, 0, 2], "words", width=100, height=90)))
    path = str(root.find("path").get("d"))  # type: ignore[union-attr]
    tops = [86 - float(top) for top in re.findall(r"V([\d.]+)H", path)]
    assert tops == [80.0, 20.0, 20.0], "falling order, nothing drawn for a code without items"
    even = next(line for line in root.iter("line") if line.get("class") == "even")
    assert 86 - float(str(even.get("y1"))) == 30.0


def test_line_chart_singles_out_the_best_point() -> None:
    points = [(0.0, 0.01), (50.0, 0.05), (100.0, 0.04)]
    root = ElementTree.fromstring(str(charts.line_chart("title", points, figure, best=points[1])["chart"]))
    (ring,) = (circle for circle in root.iter("circle") if "best" in str(circle.get("class")))
    dots = [circle for circle in root.iter("circle") if "dot" in str(circle.get("class"))]
    assert (ring.get("cx"), ring.get("cy")) == (dots[1].get("cx"), dots[1].get("cy"))
    first, highest, last = (float(str(dot.get("cy"))) for dot in dots)
    assert (first - highest) / (first - last) == pytest.approx(4 / 3, rel=0.01), "heights are in proportion, up is more"
    assert "step 50: .0500" in [title.text for title in root.iter("title")]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, width: float) -> None:
    high = low + width
    if not low < high:
        return
    ticks = charts.nice_ticks(low, high)
    slack = 1e-5 * (high - low) + 1e-9 * max(abs(low), abs(high))
    assert 1 <= len(ticks) <= 7
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert all(before < after for before, after in pairwise(ticks))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e3, 1e3)), min_size=1, max_size=200), st.integers(1, 50))
def test_thinning_keeps_the_mean_of_equal_runs(points: list[tuple[float, float]], limit: int) -> None:
    thinned = charts.thin(points, limit)
    assert len(thinned) == min(len(points), limit)
    if len(points) % len(thinned) == 0:
        mean = sum(y for _, y in points) / len(points)
        assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(mean, abs=1e-6)


def test_constant_curves_and_zeros_have_an_axis() -> None:
    for value in (0.0, 3.0, -2.0):
        drawing = str(charts.line_chart("title", [(0.0, value), (10.0, value)], count)["chart"])
        ElementTree.fromstring(drawing)
    ElementTree.fromstring(
        str(charts.interval_chart("title", [Row("a", (Mark("a", Interval(0.0), 0),))], figure)["chart"])
    )
    ElementTree.fromstring(str(charts.load_chart([0, 0], "words")))


def test_both_axes_of_a_scaling_chart_are_logarithmic() -> None:
    points = [(1e4, 4.0, "a"), (1e5, 2.0, "b"), (1e6, 1.0, "c <")]
    fitted = [(size, loss) for size, loss, _ in points]
    root = ElementTree.fromstring(str(charts.scaling_chart("title", points, fitted, figure)["chart"]))
    places = [(float(str(dot.get("cx"))), float(str(dot.get("cy")))) for dot in root.iter("circle")]
    (x1, y1), (x2, y2), (x3, y3) = places
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2) and x1 < x2  # equal ratios are equal distances
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.2) and y1 < y2  # less loss is further down
    (curve,) = root.iter("path")
    drawn = [tuple(map(float, one.split())) for one in re.split("[ML]", str(curve.get("d")))[1:]]
    assert drawn == places
    assert "c <: 1.0000" in [title.text for title in root.iter("title")]


@given(st.floats(1e-3, 1e9), st.floats(1.001, 1e6))
def test_logarithmic_ticks_are_round_rising_and_inside(low: float, ratio: float) -> None:
    ticks = charts.log_ticks(low, low * ratio)
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-5) <= tick <= low * ratio * (1 + 1e-5) for tick in ticks)
    assert ticks
