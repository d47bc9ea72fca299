"""Standalone SVG pictures for the docs: titles of panels, a legend, and their own light and dark style.

Markdown shows them as images, where no page lends a style sheet, no script runs and no font is fetched; so each carries all it
needs. Axes and lines are those of `benchmarks.svg_lines`, colours those of the run report.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from benchmarks.svg_lines import Axis, Box
from onerec.report import charts
from onerec.report.charts import draw_shape, draw_text

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
.band { fill: RULE; opacity: .6; }
.zero, .leader { stroke: STRONG-RULE; stroke-width: 1; }
.whisker { stroke-width: 2; stroke-linecap: round; opacity: .55; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.again { stroke-dasharray: 7 7; }
.dot { stroke: PAPER; stroke-width: 1.2; }
"""


def titled(area: Box, heading: str, across: str, up: str, note: str = "") -> list[Markup]:
    """Around a panel: its heading, what the axes show, and a note below."""
    return [
        draw_text(area.left, area.top - 26, heading, "heading"),
        draw_text(area.left, area.top - 9, up, "axis-title"),
        draw_text(area.right, area.bottom + 32, across, "axis-title", anchor="end"),
        *([draw_text(area.left, area.bottom + 32, note, "note")] if note else []),
    ]


def band(edges: Sequence[tuple[float, float, float]], x: Axis, y: Axis) -> Markup:
    """The area between the lower and the upper value at each x, as far as the y axis reaches."""
    ends = sorted((y.scale.start, y.scale.end))
    places = [(x.scale(at), *(min(max(y.scale(value), ends[0]), ends[1]) for value in pair)) for at, *pair in edges]
    around = [(at, low) for at, low, _ in places] + [(at, high) for at, _, high in reversed(places)]
    return Markup('<polygon class="band" points="{}"/>').format(" ".join(f"{at:.1f},{up:.1f}" for at, up in around))


def legend(entries: dict[int, str], left: float, right: float, top: float) -> tuple[list[Markup], float]:
    """Mark and name of each style, in as many rows as they need; and where the next thing may begin."""
    body, x = [], left
    for style, name in entries.items():
        width = 38 + LETTER * len(name)
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
    template = (Path(charts.__file__).parent / "templates" / "page.css.jinja").read_text(encoding="utf-8")
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
