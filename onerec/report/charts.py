"""Small charts as inline SVG: pure functions from numbers to markup.

Colours and fonts are left to the page's style sheet through class names (`s0` … `s7` for series, `grid`, `tick` …), so
that one drawing serves light, dark and paper. Every text is escaped here; every drawing carries a spoken description.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap

from markupsafe import Markup, escape

SERIES_STYLES = 9
DRAWN_POINTS = 120  # of a line
LETTER = 6.8  # width of a letter of 12.5 px, on the wide side: which font a reader has is not known
SHAPES = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Interval:
    """A figure and, where known, the ends of its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def ends(self) -> tuple[float, float]:
        """Both ends; the value itself where no interval is known."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


@dataclass(frozen=True)
class Mark:
    """One dot with its whisker: who it belongs to and in which series style it is drawn."""

    name: str
    interval: Interval
    style: int


@dataclass(frozen=True)
class Row:
    """One line of an interval chart: a label on the left, a note on the right, the marks below them."""

    label: str
    marks: tuple[Mark, ...]
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] of the data to [start, end] of the drawing: linearly, or by logarithms of data above zero."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, place = (math.log(end) if self.logarithmic else end for end in (self.low, self.high, value))
        share = (place - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], over a short range 2 and 5 times these too; other round numbers if these are too few."""
    if not 0 < low < high < math.inf:
        raise ValueError(f"no logarithmic ticks between {low} and {high}")
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # Over many powers of ten, they alone are ticks enough.
    factors = (1, 2, 5) if high < 1e3 * low else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
    return found if len(found) > 1 else nice_ticks(low, high)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ValueError(f"no ticks between {low} and {high}")
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # The slack of a millionth keeps a bound that is itself a multiple, whatever its last bits say.
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-6))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(index * step, step_decimals(step)) + 0.0 for index in range(first, last + 1)]


def padded_range(values: Iterable[float], *, with_zero: bool) -> tuple[float, float]:
    """The range of the values with a little air around it, but none beyond zero where `with_zero` makes zero an end."""
    found = [*values, 0.0] if with_zero else list(values)
    low, high = min(found), max(found)
    # A single number has no width of its own; half of its size (or 1 at zero) gives it room.
    air = 0.04 * (high - low) or abs(high) / 2 or 1.0
    return (low if with_zero and low == 0 else low - air, high if with_zero and high == 0 < -low else high + air)


def step_decimals(step: float) -> int:
    """How many decimals tell multiples of `step` apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks as text, all with the same number of decimals and with thousands grouped."""
    decimals = step_decimals(ticks[1] - ticks[0]) if len(ticks) > 1 else 2
    return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in ticks]


def thin(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """At most `limit` points: each is the mean of an equally long run of neighbours. Short lists stay as they are."""
    if len(points) <= limit:
        return list(points)
    edges = [index * len(points) // limit for index in range(limit + 1)]
    runs = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def interval_chart(
    title: str, rows: Sequence[Row], write: Callable[[float], str], *, width: int = 400
) -> dict[str, str | Markup]:
    """A titled chart of dots with whiskers, one row a label, on a common axis that includes zero.

    `write` says a number the way the page does. The axis starts at zero, so that twice the distance is twice the figure;
    with negative values the zero line is drawn stronger. A label that has no room beside its note goes on in the next line.
    """
    ends = [end for row in rows for mark in row.marks for end in (*mark.interval.ends(), mark.interval.value)]
    low, high = padded_range(ends, with_zero=True)
    scale = Scale(low, high, 1, width - 1)
    ticks = nice_ticks(low, high, 7)
    body: list[Markup] = []
    top = 4.0
    for row in rows:
        lines = wrap(row.label, max(int(width / LETTER) - len(row.note) - 2, 8))
        body += [draw_text(0, top + 13 + 15 * place, line, "label") for place, line in enumerate(lines)]
        if row.note:
            body.append(draw_text(width, top + 13 + 15 * (len(lines) - 1), row.note, "note", anchor="end"))
        top += 15 * (len(lines) - 1)
        body += [_whisker(mark, scale, top + 28 + 13 * place, write) for place, mark in enumerate(row.marks)]
        # Groups of several marks need more air than single ones to be seen as groups.
        top += 26 + 13 * len(row.marks) + (8 if len(row.marks) > 1 else 0)
    bottom = top + 2
    axis = [draw_line(scale(tick), 0, scale(tick), bottom, "zero" if tick == 0 else "grid") for tick in ticks]
    axis += _ticks_below(scale, ticks, tick_labels(ticks), bottom + 15, 14, width - 14)
    said = (f"{row.label}: " + ", ".join(_said(mark, write, row.label) for mark in row.marks) for row in rows)
    return {"title": title, "chart": inline_svg(width, bottom + 20, f"{title}. {'; '.join(said)}.", [*axis, *body])}


def line_chart(
    title: str,
    points: Sequence[tuple[float, float]],
    write: Callable[[float], str],
    *,
    style: int = 0,
    from_zero: bool = False,
    top: float | None = None,
    last_step: float | None = None,
    best: tuple[float, float] | None = None,
    width: int = 300,
    height: int = 170,
) -> dict[str, str | Markup]:
    """A titled line over training steps; many points are drawn as means of neighbours.

    `top` and `last_step`: ends that the axes must reach, so that several charts share one scale. `best`: a point to
    single out and label.
    """
    shown = sorted({*thin(points, DRAWN_POINTS), *([best] if best else [])})
    low, high = padded_range([value for _, value in shown] + ([] if top is None else [top]), with_zero=from_zero)
    ticks = nice_ticks(low, high, 4)
    left = 8 + 6.4 * max(map(len, tick_labels(ticks)))
    end = max(max(step for step, _ in shown), last_step or 0.0, 1.0)
    x = Scale(0, end, left, width - 6)
    y = Scale(low, high, height - 24, 16)
    steps = nice_ticks(0, end, 4)
    body = _axis_left(y, ticks, left, width)
    body += [*_ticks_below(x, steps, tick_labels(steps), height - 6, 0, width - 16), _curve(shown, x, y, style)]
    # Few points are measurements and get a dot; many are a curve, and their circles only catch the pointer.
    kind, radius = ("dot", 3) if len(shown) <= 40 else ("catch", 5)
    body += [_circle(kind, style, x(s), y(v), radius, f"step {s:,.0f}: {write(v)}") for s, v in shown]
    if best is not None:
        anchor = anchor_at(x(best[0]), left + 24, width - 24)
        body.append(_circle("best", style, x(best[0]), y(best[1]), 4.5, ""))
        body.append(draw_text(x(best[0]), y(best[1]) - 9, write(best[1]), "peak", anchor=anchor))
    said = f"{title}, from {write(points[0][1])} to {write(points[-1][1])} at step {points[-1][0]:,.0f}."
    return {"title": title, "chart": inline_svg(width, height, said, body)}


def scaling_chart(
    title: str,
    points: Sequence[tuple[float, float, str]],
    fitted: Sequence[tuple[float, float]],
    write: Callable[[float], str],
    *,
    width: int = 460,
    height: int = 260,
) -> dict[str, str | Markup]:
    """A titled chart of measured (size, loss, words) as dots, and of a fitted curve through (size, loss).

    Both axes are logarithmic: all sizes and losses must be above zero. `write` says a loss.
    """
    sizes = [size for size, *_ in points] + [size for size, _ in fitted]
    losses = [loss for _, loss, _ in points] + [loss for _, loss in fitted]
    # A little of the range in logarithms is air; a single size or loss gets 2 % of itself.
    air = [max((max(found) / min(found)) ** 0.06, 1.02) for found in (sizes, losses)]
    x = Scale(min(sizes) / air[0], max(sizes) * air[0], 52, width - 8, logarithmic=True)
    y = Scale(min(losses) / air[1], max(losses) * air[1], height - 30, 8, logarithmic=True)
    ticks = log_ticks(x.low, x.high)
    body = _axis_left(y, nice_ticks(y.low, y.high, 5), x.start, width)
    body += [draw_line(x(tick), y.end, x(tick), y.start, "grid") for tick in ticks]
    body += _ticks_below(x, ticks, list(map(short_number, ticks)), height - 12, 60, width - 24)
    if fitted:
        body.append(_curve(fitted, x, y, 0))
    said = [f"{words}: {write(loss)}" for _, loss, words in points]
    body += [
        _circle("dot", 1, x(size), y(loss), 4.6, words) for (size, loss, _), words in zip(points, said, strict=True)
    ]
    return {"title": title, "chart": inline_svg(width, height, f"{title}. {'; '.join(said)}.", body)}


def load_chart(counts: Sequence[float], description: str, *, width: int = 300, height: int = 96) -> Markup:
    """How many items each code of one level carries: bars in falling order, with a dashed line at the even share.

    More than 150 codes are drawn as the means of neighbouring codes; the description speaks of all of them.
    """
    ordered = sorted(counts, reverse=True)
    bars = [load for _, load in thin([(0.0, float(count)) for count in ordered], 150)]
    even = sum(ordered) / len(ordered)
    y = Scale(0, max(*bars, even, 1e-9), height - 4, 6)
    x = Scale(0, len(bars), 0, width)
    gap = 1.0 if len(bars) <= 64 else 0.0
    steps = [
        f"M{x(index):.2f} {y(0):.1f}V{y(load):.1f}H{x(index + 1) - gap:.2f}V{y(0):.1f}Z"
        for index, load in enumerate(bars)
        if load > 0
    ]
    body = [
        Markup('<path class="load" d="{}"/>').format("".join(steps)),
        draw_line(0, y(0), width, y(0), "axis"),
        draw_line(0, y(even), width, y(even), "even"),
    ]
    return inline_svg(width, height, description, body)


def legend_mark(style: int) -> Markup:
    """The small sign that stands for a series in a legend; said aloud by the name beside it, hence hidden itself."""
    return Markup('<svg class="key" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">{}</svg>').format(
        draw_shape(style, 7, 7)
    )


def _curve(points: Sequence[tuple[float, float]], x: Scale, y: Scale, style: int) -> Markup:
    path = " ".join(f"{'L' if index else 'M'}{x(across):.1f} {y(up):.1f}" for index, (across, up) in enumerate(points))
    return Markup('<path class="curve s{}" d="{}"/>').format(style % SERIES_STYLES, path)


def _circle(kind: str, style: int, x: float, y: float, radius: float, words: str) -> Markup:
    """A circle with the text that hovering shows."""
    title = Markup("<title>{}</title>").format(words) if words else ""
    return Markup('<circle class="{} s{}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>').format(
        kind, style % SERIES_STYLES, x, y, radius, title
    )


def _axis_left(y: Scale, ticks: Sequence[float], left: float, width: float) -> list[Markup]:
    """Grid lines from `left` on, and what they stand for before them."""
    lines = [draw_line(left, y(tick), width, y(tick), "grid") for tick in ticks]
    named = zip(ticks, tick_labels(ticks), strict=True)
    return lines + [draw_text(left - 6, y(tick) + 4, label, "tick", anchor="end") for tick, label in named]


def _ticks_below(
    x: Scale, ticks: Sequence[float], labels: Sequence[str], base: float, left: float, right: float
) -> list[Markup]:
    """Labels on the base line; those beyond `left` and `right` hang inwards."""
    named = zip(ticks, labels, strict=True)
    return [draw_text(x(tick), base, label, "tick", anchor=anchor_at(x(tick), left, right)) for tick, label in named]


def _whisker(mark: Mark, scale: Scale, y: float, write: Callable[[float], str]) -> Markup:
    low, high = (scale(end) for end in mark.interval.ends())
    bar = draw_line(low, y, high, y, f"whisker s{mark.style % SERIES_STYLES}") if low < high else ""
    # The wide transparent line makes a thin whisker easy to hover.
    catch = draw_line(low - 6, y, high + 6, y, "catch")
    return Markup("<g>{}{}{}<title>{}</title></g>").format(
        catch, bar, draw_shape(mark.style, scale(mark.interval.value), y), _said(mark, write)
    )


def _said(mark: Mark, write: Callable[[float], str], known: str = "") -> str:
    """The mark in words, with its name unless that is known already."""
    words = f"{'' if mark.name == known else mark.name + ': '}{write(mark.interval.value)}"
    if mark.interval.low is None or mark.interval.high is None:
        return words
    return f"{words} (95 % interval {write(mark.interval.low)} to {write(mark.interval.high)})"


def draw_shape(style: int, x: float, y: float) -> Markup:
    """Series differ by shape as well as colour, for eyes and printers that see none."""
    style %= SERIES_STYLES
    kind = SHAPES[style % len(SHAPES)]
    if kind == "circle":
        return Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="4.6"/>').format(style, x, y)
    corners = {
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "diamond": ((0, -5.6), (5.6, 0), (0, 5.6), (-5.6, 0)),
        "triangle": ((0, -5.2), (5.2, 4), (-5.2, 4)),
    }[kind]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return Markup('<polygon class="dot s{}" points="{}"/>').format(style, points)


def draw_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line of the class `kind`."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def short_number(value: float) -> str:
    """`20k`, `5M`: large round numbers in little room."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def anchor_at(x: float, left: float, right: float) -> str:
    """Where a text hangs on its point, so that it stays inside the drawing."""
    return "start" if x < left else "end" if x > right else "middle"


def draw_text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> Markup:
    """Escaped words of the class `kind` on the base line y; `anchor`: which end of them is at x."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, words)


def inline_svg(width: float, height: float, description: str, body: Iterable[Markup]) -> Markup:
    """A chart for a page that lends it the style sheet; `description` is what is said aloud."""
    return Markup('<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, description, Markup("").join(escape(part) for part in body)
    )
