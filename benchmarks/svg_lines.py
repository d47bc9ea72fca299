"""Several lines over one pair of axes, the panels of pictures in the docs: axes, frame, lines with gaps.

Texts, shapes and classes are those of the run report (`onerec.report.charts`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from onerec.report import charts
from onerec.report.charts import LinearScale, LogScale, draw_line, draw_shape, draw_text

# More points than these are a curve, whose end alone is marked.
FEW = 12


@dataclass(frozen=True)
class Axis:
    """Where values lie in the drawing, and which of them are named how."""

    scale: LinearScale | LogScale
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


# Of the values that it must hold, and where it starts and ends in the drawing.
MakeAxis = Callable[[Sequence[float], float, float], Axis]


@dataclass(frozen=True)
class Box:
    """A rectangle of the drawing: the plotted area of a panel, or what a label covers."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Whether they share more than an edge; a line counts as a box without height or width."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: "Box") -> bool:
        """Whether the other lies within."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True)
class Line:
    """A named line through (x, y) in a series style; None as y is a gap."""

    label: str
    style: int
    points: tuple[tuple[float, float | None], ...]

    def known(self) -> list[tuple[float, float]]:
        """The points that have a value."""
        return [(x, y) for x, y in self.points if y is not None]

    def pieces(self) -> list[list[tuple[float, float]]]:
        """Runs of points without a gap."""
        found: list[list[tuple[float, float]]] = [[]]
        for x, y in self.points:
            if y is not None:
                found[-1].append((x, y))
            elif found[-1]:
                found.append([])
        return [piece for piece in found if piece]


def linear_axis(values: Iterable[float], start: float, end: float, *, count: int = 7) -> Axis:
    """Covers the values with a little air; about `count` ticks."""
    low, high = charts.padded_range(values, with_zero=False)
    ticks = charts.nice_ticks(low, high, count)
    return Axis(LinearScale(low, high, start, end), tuple(ticks), tuple(charts.tick_labels(ticks)))


def zero_axis(values: Iterable[float], start: float, end: float) -> Axis:
    """Linear, and holds zero."""
    return linear_axis([*values, 0.0], start, end)


def step_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """From step 0 to the last of `values`, with as many ticks as there is room for their labels."""
    last = max(*values, 1.0)
    room = 18 + 6.4 * len(f"{last:,.0f}")
    ticks = charts.nice_ticks(0, last, max(2, int(abs(end - start) / room)))
    return Axis(LinearScale(0, last, start, end), tuple(ticks), tuple(charts.tick_labels(ticks)))


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Covers the values, all above zero, by logarithms with a little air."""
    air = max((max(values) / min(values)) ** 0.06, 1.02)
    scale = LogScale(min(values) / air, max(values) * air, start, end)
    ticks = charts.log_ticks(scale.low, scale.high)
    return Axis(scale, tuple(ticks), tuple(charts.short_number(tick) for tick in ticks))


def doubling_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Logarithms to the base two: every power of two from the least to the largest value is a tick."""
    low, high = (pick(math.log2(end)) for pick, end in ((math.floor, min(values)), (math.ceil, max(values))))
    ticks = tuple(2.0**power for power in range(low, high + 1))
    return Axis(LogScale(ticks[0], ticks[-1], start, end), ticks, tuple(f"{tick:g}" for tick in ticks))


def frame(area: Box, x: Axis, y: Axis) -> list[Markup]:
    """Grid and ticks; the lines of zero are drawn stronger."""
    body = []
    for tick, label in zip(y.ticks, y.labels, strict=True):
        place = y.scale(tick)
        body.append(draw_line(area.left, place, area.right, place, "zero" if tick == 0 else "grid"))
        body.append(draw_text(area.left - 6, place + 4, label, "tick", anchor="end"))
    for tick, label in zip(x.ticks, x.labels, strict=True):
        place = x.scale(tick)
        body.append(draw_line(place, area.top, place, area.bottom, "zero" if tick == 0 else "grid"))
        body.append(draw_text(place, area.bottom + 16, label, "tick", anchor="middle"))
    return body


def curves(lines: Sequence[Line], x: Axis, y: Axis) -> list[Markup]:
    """Lines broken at gaps; the name of each is its title.

    Marks stand on few points, at the end of many, and on a point between two gaps. A line that runs where an earlier one does is
    dashed and has half the marks, so that both are seen.
    """
    drawn, before = [], list[list[tuple[float, float]]]()
    for line in lines:
        style = line.style % charts.SERIES_STYLES
        pieces = [[(x.scale(across), y.scale(up)) for across, up in piece] for piece in line.pieces()]
        points = [point for piece in pieces for point in piece]
        again = any(_alike(points, earlier) for earlier in before)
        before.append(points)
        few = points[1::2] if again else points
        lonely = [piece[0] for piece in pieces if len(piece) == 1]
        marked = few if len(points) <= FEW else [*lonely, points[-1]]
        path = " ".join(
            f"{'L' if place else 'M'}{a:.1f} {b:.1f}" for piece in pieces for place, (a, b) in enumerate(piece)
        )
        drawn.append(
            Markup('<g><title>{}</title><path class="curve s{}{}" d="{}"/>{}</g>').format(
                line.label,
                style,
                " again" if again else "",
                path,
                _joined(draw_shape(style, *point) for point in marked),
            )
        )
    return drawn


def _alike(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> bool:
    """Whether one line would hide the other: nearly all of their points are within two pixels."""
    if len(first) != len(second):
        return False
    near = sum(math.dist(one, other) < 2 for one, other in zip(first, second, strict=True))
    return near > 0.8 * len(first)


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
