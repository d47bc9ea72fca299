"""Several lines on one pair of axes: values lie where the axes say, gaps stay gaps, and nothing that occurs is refused."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.svg_lines import (
    Line,
    curves,
    doubling_axis,
    linear_axis,
    log_axis,
    step_axis,
)

PIXEL = 0.06  # coordinates have one decimal


def test_logarithms_and_gaps() -> None:
    x, y = linear_axis([0, 30], 0, 300), log_axis([1, 100], 200, 0)
    (first,) = curves([Line("<a> & b", 0, ((0, 1.0), (10, None), (20, 10.0), (30, 100.0)))], x, y)
    drawn = ElementTree.fromstring(str(first))
    assert [title.text for title in drawn.iter("title")] == ["<a> & b"]
    (path,) = (str(one.get("d")) for one in drawn.iter("path"))
    assert path.count("M") == 2
    places = [float(step.split()[1]) for step in path.replace("L", "M").split("M")[1:]]
    # Equal factors are equal distances, and air is 6 % of the range on both sides.
    assert places == pytest.approx([200 - 200 * share / 1.12 for share in (0.06, 0.56, 1.06)], abs=PIXEL)
    doubling = doubling_axis([1, 2, 512], 10, 100)
    assert doubling.ticks == tuple(2.0**power for power in range(10)) and doubling.scale(16) == pytest.approx(50)


def test_a_line_on_another_is_dashed() -> None:
    x, y = linear_axis([0, 2], 0, 100), linear_axis([0, 1], 0, 100)
    points = ((0.0, 0.5), (1.0, 0.6), (2.0, 0.7))
    other = tuple((across, 1 - up) for across, up in points)
    found = curves([Line("a", 0, points), Line("b", 1, points), Line("c", 2, other)], x, y)
    assert [" again" in one for one in found] == [False, True, False]


def test_a_point_between_gaps_is_seen() -> None:
    """A path through one point draws nothing, and long lines have a mark at the end alone."""
    points = tuple((float(step), None if step in (1, 21, 23) else 0.5) for step in range(41))
    x, y = linear_axis([0, 42], 0, 420), linear_axis([0, 1], 100, 0)
    (drawn,) = curves([Line("a", 0, points)], x, y)
    marks = [float(str(one.get("cx"))) for one in ElementTree.fromstring(str(drawn)).iter("circle")]
    assert marks == pytest.approx([x.scale(0), x.scale(22), x.scale(40)], abs=PIXEL)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=6))
def test_logarithmic_axes_refuse_nothing_above_zero(values: list[float]) -> None:
    axis = log_axis(values, 200, 0)
    assert all(-1e-6 <= axis.scale(value) <= 200 + 1e-6 for value in [*values, *axis.ticks])
    assert axis.ticks and len(axis.ticks) == len(axis.labels)


@given(st.integers(0, 200_000), st.floats(120, 700))
def test_labels_of_steps_do_not_touch(last: int, width: float) -> None:
    axis = step_axis([last], 50, 50 + width)
    assert axis.ticks[0] == 0
    places = [axis.scale(tick) for tick in axis.ticks]
    # Of 11 px digits one is 6.4 px at most.
    widest = 6.4 * max(map(len, axis.labels))
    assert all(second - first >= widest for first, second in pairwise(places))
