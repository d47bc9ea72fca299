"""Standalone SVG pictures for the docs: panels with axes, lines with gaps, a legend, and their own light and dark style.

Markdown shows them as images, where no page lends a style sheet, no script runs and no font is fetched; so each carries all it
needs. Scales, ticks, shapes and texts are those of `onerec.evaluate.charts`, colours those of the run report.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from onerec.evaluate import charts
from onerec.evaluate.charts import LinearScale, LogScale, draw_line, draw_shape, draw_text

# Of 12.5 px letters, on the wide side: which font a reader has is not known.
LETTER = 6.6
STYLE = """
svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; }
text { fill: INK; font-size: 12.5px; font-variant-numeric: tabular-nums; }
.paper { fill: PAPER; }
.heading { font-weight: 600; }
.tick, .note, .axis-title { fill: SOFT; font-size: 11px; }
.halo { fill: none; stroke: PAPER; stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: RULE; stroke-width: 1; }
.zero, .leader { stroke: STRONG-RULE; stroke-width: 1; }
.whisker { stroke-width: 2; stroke-linecap: round; opacity: .55; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.again { stroke-dasharray: 7 7; }
.dot { stroke: PAPER; stroke-width: 1.2; }
"""


@dataclass(frozen=True)
class Axis:
    """Where values lie in the drawing, and which of them are named how."""

    scale: LinearScale | LogScale
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


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
    """A named line through (x, y); None as y is a gap."""

    label: str
    style: int
    points: tuple[tuple[float, float | None], ...]

    def known(self) -> list[tuple[float, float]]:
        """The points that have a value."""
        return [(x, y) for x, y in self.points if y is not None]


def linear_axis(values: Iterable[float], start: float, end: float, *, count: int = 5) -> Axis:
    """Covers the values with a little air."""
    low, high = charts.padded_range(values, with_zero=False)
    ticks = charts.nice_ticks(low, high, count)
    return Axis(LinearScale(low, high, start, end), tuple(ticks), tuple(charts.tick_labels(ticks)))


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


def frame(area: Box, x: Axis, y: Axis, titles: tuple[str, str, str]) -> list[Markup]:
    """Grid, ticks, and the titles of panel, x axis and y axis."""
    heading, across, up = titles
    body = [draw_text(area.left, area.top - 26, heading, "heading")]
    body.append(draw_text(area.left, area.top - 9, up, "axis-title"))
    body.append(draw_text(area.right, area.bottom + 32, across, "axis-title", anchor="end"))
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
    """Lines broken at gaps; the name of each is its title. Few points get marks, many only one at the end.

    A line that runs where an earlier one does is dashed and has half the marks, so that both are seen.
    """
    drawn, before = [], list[list[tuple[float, float]]]()
    for line in lines:
        style, steps, pen = line.style % charts.SERIES_STYLES, list[str](), "M"
        for across, up in line.points:
            if up is not None:
                steps.append(f"{pen}{x.scale(across):.1f} {y.scale(up):.1f}")
            pen = "M" if up is None else "L"
        points = [(x.scale(across), y.scale(up)) for across, up in line.known()]
        again = any(_alike(points, earlier) for earlier in before)
        before.append(points)
        marked = points[-1:] if len(points) > 12 else points[1::2] if again else points
        drawn.append(
            Markup('<g><title>{}</title><path class="curve s{}{}" d="{}"/>{}</g>').format(
                line.label,
                style,
                " again" if again else "",
                " ".join(steps),
                Markup("").join(draw_shape(style, *point) for point in marked),
            )
        )
    return drawn


def _alike(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> bool:
    """Whether one line would hide the other: nearly all of their points are within two pixels."""
    if len(first) != len(second):
        return False
    near = sum(math.dist(one, other) < 2 for one, other in zip(first, second, strict=True))
    return near > 0.8 * len(first)


def legend(entries: dict[int, str], left: float, right: float, top: float) -> tuple[list[Markup], float]:
    """Mark and name of each style, in as many rows as they need; and where the next thing may begin."""
    body, x = [], left
    for style, name in entries.items():
        width = 30 + LETTER * len(name)
        if x > left and x + width > right:
            x, top = left, top + 20
        body.append(draw_shape(style, x + 6, top))
        body.append(draw_text(x + 16, top + 4, name, "key"))
        x += width
    return body, top + 20


def picture(width: float, height: float, title: str, description: str, body: Iterable[Markup]) -> str:
    """A whole SVG file, on paper of its own: an image does not know the page's colour."""
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" role="img" '
        'aria-labelledby="title description"><title id="title">{2}</title><desc id="description">{3}</desc>\n'
        '<style>{4}</style>\n<rect class="paper" width="{0:.0f}" height="{1:.0f}" rx="4"/>\n{5}\n</svg>\n'
    ).format(width, height, title, description, Markup(style_sheet()), Markup("\n").join(body))


def style_sheet() -> str:
    """Light colours, and dark ones for readers who prefer them. Written out: not every viewer of images knows variables."""
    light, dark = palettes()
    return f"{_coloured(light)}@media (prefers-color-scheme: dark) {{{_coloured(dark)}}}\n"


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    """The report's colours by name (`paper`, `ink`, `s0` …), light and dark."""
    template = Path(charts.__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", template, flags=re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks[:2])
    return light, dark


def _coloured(palette: dict[str, str]) -> str:
    def of(name: re.Match[str]) -> str:
        return palette[name[0].lower()]

    series = [
        f".dot.s{index} {{ fill: {palette[f's{index}']}; }} "
        f".whisker.s{index}, .curve.s{index} {{ stroke: {palette[f's{index}']}; }}\n"
        for index in range(charts.SERIES_STYLES)
    ]
    return re.sub(r"STRONG-RULE|INK|PAPER|SOFT|RULE", of, STYLE) + "".join(series)
