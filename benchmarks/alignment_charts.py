"""Pictures of what alignment is worth, from the alignment benchmark's results file alone.

    python -m benchmarks.alignment_charts benchmarks/results/alignment-kuairand.json --out docs/figures

Writes `alignment-tradeoff.svg`, `alignment-legality.svg`, `alignment-gradients.svg`, `alignment-pass-at-k.svg` and
`alignment-curves.svg`. Rows that the file does not have are left out; a picture without any row is not written. Names are the
same whatever the dataset: another one's pictures belong in another folder.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from benchmarks.alignment_rows import MAIN
from benchmarks.svg_labels import place_labels
from benchmarks.svg_lines import (
    Axis,
    Box,
    Line,
    MakeAxis,
    curves,
    doubling_axis,
    frame,
    linear_axis,
    log_axis,
    step_axis,
    zero_axis,
)
from benchmarks.svg_picture import LETTER, band, legend, titled
from benchmarks.svg_picture import picture as svg_picture
from onerec.report.charts import Interval, draw_line, draw_shape, draw_text

Row = dict[str, Any]
WIDTH, LEFT, RIGHT = 760.0, 58.0, 740.0
# A colour and a shape stay with an objective or a format reward, whichever rows there are and in every picture.
STYLES = {"ecpo": 0, "grpo": 1, "gbpo": 2, "dpo": 3, "ipa": 4, "next_code": 5, "start": 7}
FORMATS = {"format_top": 0, "format_random": 1, "format_none": 2}
SEARCHES = {"beam": "Lists of the generator", "selection": "Lists that the reward model selects"}
# The config that ships weighs the next-code loss sevenfold; rows whose name ends in a number, once.
HOLDS = {"": "Next-code loss x 7", "_1": "Next-code loss x 1", "_10": "the same, format reward x 10"}
DRIFTS = {f"drift_{objective}": STYLES[objective] for objective in ("ecpo", "grpo", "gbpo")}
GROWING = {
    "ratio_max_largest": ("Ratios", "largest, as the objective bounds it"),
    "negative_coefficient_largest": ("Negative advantages", "largest mean factor of gradients"),
    "negative_gradient_norm_largest": ("Gradients", "largest norm of what pushes down"),
}
TRAINING: dict[str, tuple[str, str, MakeAxis]] = {
    "reward": ("Reward of the generations", "mean over generated items", linear_axis),
    "kl_to_start": ("Distance to the start", "KL divergence of items, nats", zero_axis),
    "entropy": ("Entropy", "of all codes of an item, nats", linear_axis),
    "items_in_batch": ("Diversity", "different items in a batch, % of its generations", linear_axis),
}


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes; `x_axis` and `y_axis` make an axis of its values and both ends.

    Attributes:
        titles: heading, what is on the x axis, and on the y axis.
        words: writes a value of the y axis in the description.
        band: x with the ends of a shaded area, and `note` says what it is.
    """

    titles: tuple[str, str, str]
    lines: tuple[Line, ...]
    x_axis: MakeAxis
    y_axis: MakeAxis
    words: Callable[[float], str]
    band: tuple[tuple[float, float, float], ...] = ()
    note: str = ""


def tradeoff(rows: dict[str, Row]) -> str | None:
    """Gain of the judge's P-Score against the difference in Recall@10, lists of the generator above selected ones."""
    main = [row for row in rows.values() if row.get("group") == MAIN]
    styles = _styles([row["name"] for row in main])
    panels = {
        search: [
            (row["label"], styles[row["name"]], *figures)
            for row in main
            if (figures := _gain_and_recall(row.get(search, {}).get("difference", {})))
        ]
        for search in SEARCHES
    }
    panels = {search: marks for search, marks in panels.items() if marks}
    if not panels:
        return None
    every = [mark for marks in panels.values() for mark in marks]
    x = linear_axis([end for *_, gain, _ in every for end in gain.ends()] + [0.0], LEFT, RIGHT, count=8)
    reach = [end for *_, recall in every for end in recall.ends()] + [0.0]
    body, words, top = list[Markup](), list[str](), 8.0
    for search, marks in panels.items():
        area = Box(LEFT, top + 40, RIGHT, top + 300)
        y = linear_axis(reach, area.bottom, area.top)
        titles = (SEARCHES[search], "gain of the judge's P-Score, %", "difference in Recall@10")
        body += [*titled(area, *titles), *frame(area, x, y), *_marks(marks, x, y, area)]
        words += [f"{SEARCHES[search]}: " + "; ".join(_told(*mark) for mark in marks) + "."]
        top = area.bottom + 44
    words.append("Differences are to the lists of the generator before alignment; whiskers are 95 % intervals.")
    return svg_picture(WIDTH, top, "What the judge gains and what Recall@10 pays", " ".join(words), body)


def legality(rows: dict[str, Row]) -> str | None:
    """How much of what is sampled freely is an item, over the steps of alignment, with and without format reward."""
    found = {
        ending: [
            Line(rows[name + ending]["label"], style, _curve(rows[name + ending], "legality", 100.0))
            for name, style in FORMATS.items()
            if name + ending in rows
        ]
        for ending in HOLDS
    }
    lines = {ending: _drawn(some) for ending, some in found.items()}
    reach = [y for some in lines.values() for line in some for _, y in line.known()]

    def y_axis(_: Sequence[float], start: float, end: float) -> Axis:
        return linear_axis(reach, start, end)

    panels = [
        Panel(
            (HOLDS[ending], "step", "legal samples, %"), tuple(some), step_axis, y_axis, lambda value: f"{value:.1f} %"
        )
        for ending, some in lines.items()
        if some
    ]
    return _line_picture("Legal codes under the format reward", panels)


def gradients(rows: dict[str, Row]) -> str | None:
    """How far ratios and gradients go when nothing holds the policy to who generates; logarithmic."""
    panels = []
    for name, (title, up) in GROWING.items():
        lines = [
            Line(rows[row]["label"], style, _curve(rows[row], name, positive=True))
            for row, style in DRIFTS.items()
            if row in rows
        ]
        if drawn := _drawn(lines):
            panels.append(Panel((title, "step", up), tuple(drawn), step_axis, log_axis, lambda value: f"{value:.3g}"))
    return _line_picture("Ratios and gradients far from who generates", panels)


def pass_at_k(rows: dict[str, Row]) -> str | None:
    """Of the K most probable items, the judge's best and the share of users with a hit, both as differences to the start."""
    main = [row for row in rows.values() if "pass_at_k" in row]
    styles = _styles([row["name"] for row in main])
    kinds = {
        "judge": ("Best P-Score of the K most probable items", "K", "gain on the start, %"),
        "hit": ("Users with a hit among these K", "K", "difference to the start, points"),
    }
    panels = []
    for kind, titles in kinds.items():
        lines, edges = list[Line](), dict[float, tuple[float, float]]()
        for row in main:
            differences = row["pass_at_k"].get(f"{kind}_difference", {})
            scales = dict.fromkeys(differences, 100.0)
            if kind == "judge":
                start = rows.get(row["start"], {}).get("pass_at_k", {}).get("judge", {})
                scales = {k: 100 / start[k]["value"] for k in differences if k in start}
            points = tuple((float(k), differences[k]["value"] * scale) for k, scale in scales.items())
            for k, scale in scales.items():
                value, low, high = (differences[k][name] * scale for name in ("value", "low", "high"))
                below, above = edges.get(float(k), (0.0, 0.0))
                edges[float(k)] = min(below, value - high), max(above, value - low)
            lines.append(Line(row["label"], styles[row["name"]], points))
        if drawn := _drawn(lines):
            level = tuple((k, *ends) for k, ends in sorted(edges.items()))
            note = "outside the band the 95 % interval leaves out zero"
            words = "{:+.2f}".format
            panels.append(Panel(titles, tuple(drawn), doubling_axis, zero_axis, words, level, note))
    return _line_picture("Pass@K after alignment", panels)


def training(rows: dict[str, Row]) -> str | None:
    """How objectives go over the steps: reward, distance to the start, entropy, and how many items are generated."""
    main = [row for row in rows.values() if row.get("group") == MAIN]
    styles = _styles([row["name"] for row in main])
    panels = []
    for name, (title, up, y_axis) in TRAINING.items():
        factor = 100.0 if name == "items_in_batch" else 1.0
        # Other weights of rewards, other rewards: these do not belong on one axis.
        shown = [row for row in main if name != "reward" or not _reweighted(row)]
        if drawn := _drawn(Line(row["label"], styles[row["name"]], _curve(row, name, factor)) for row in shown):
            words = "{:.3g}".format
            note = "" if len(shown) == len(main) else "other rewards are left out"
            panels.append(Panel((title, "step", up), tuple(drawn), step_axis, y_axis, words, note=note))
    return _line_picture("Objectives over the steps of alignment", panels, columns=2)


def _reweighted(row: Row) -> bool:
    return any(setting.startswith("align.rewards.") for setting in row.get("settings", ()))


PICTURES = {
    "tradeoff": tradeoff,
    "legality": legality,
    "gradients": gradients,
    "pass-at-k": pass_at_k,
    "curves": training,
}


def pictures(results: dict[str, Any]) -> dict[str, str | None]:
    """The SVG text of each picture by its file's name; None where the file has no row for it.

    Raises:
        ValueError: `results` has no rows.
    """
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise ValueError("holds no rows; it must be a file of benchmarks.alignment")
    rows = {row["name"]: row for row in results["rows"] if "name" in row}
    return {f"alignment-{name}.svg": draw(rows) for name, draw in PICTURES.items()}


def main() -> int:
    """Write the pictures that the results file has rows for."""
    from onerec.files import write_text

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what benchmarks.alignment wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parsed = parser.parse_args()
    try:
        made = pictures(json.loads(parsed.results.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        parser.error(f"{parsed.results}: {error}")
    parsed.out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        if text is None:
            print(f"{name} left out: {parsed.results} has no row for it")
        else:
            write_text(parsed.out / name, text)
            print(f"wrote {parsed.out / name}")
    return 0 if any(made.values()) else 1


def _line_picture(title: str, panels: Sequence[Panel], columns: int = 3) -> str | None:
    """Panels below one legend, at most `columns` side by side; None without panels."""
    if not panels:
        return None
    entries: dict[int, str] = {}
    for panel in panels:
        for line in panel.lines:
            entries.setdefault(line.style, line.label)
    body, top = legend(entries, 12, RIGHT, 20)
    columns = min(columns, len(panels))
    width, high, words = WIDTH / columns, 334 if len(panels) <= columns else 264, list[str]()
    for place, panel in enumerate(panels):
        left, upper = place % columns * width, top + place // columns * high
        area = Box(left + LEFT, upper + 40, left + width - 20, upper + high - 44)
        known = [point for line in panel.lines for point in line.known()]
        x = panel.x_axis([across for across, _ in known], area.left, area.right)
        y = panel.y_axis([up for _, up in known], area.bottom, area.top)
        body += titled(area, *panel.titles, panel.note)
        body += [band(panel.band, x, y)] if panel.band else []
        body += [*frame(area, x, y), *curves(panel.lines, x, y)]
        words.append(_described(panel))
    return svg_picture(WIDTH, top + -(-len(panels) // columns) * high, title, " ".join(words), body)


def _described(panel: Panel) -> str:
    """The panel in words: where each line ends."""
    heading, across, up = panel.titles
    ends = [(line.label, *line.known()[-1]) for line in panel.lines]
    told = "; ".join(f"{label}, {panel.words(y)} at {across} {x:g}" for label, x, y in ends)
    return f"{heading}, {up}: {told}."


def _marks(marks: Sequence[tuple[str, int, Interval, Interval]], x: Axis, y: Axis, area: Box) -> list[Markup]:
    """Both whiskers below, marks above them, names beside."""
    body, crossed, points = list[Markup](), list[Box](), list[tuple[float, float]]()
    for _, style, gain, recall in marks:
        across, up = x.scale(gain.value), y.scale(recall.value)
        (left, right), (bottom, top) = map(x.scale, gain.ends()), map(y.scale, recall.ends())
        body.append(draw_line(left, up, right, up, f"whisker s{style}"))
        body.append(draw_line(across, bottom, across, top, f"whisker s{style}"))
        crossed += [Box(left, up, right, up), Box(across, top, across, bottom)]
        points.append((across, up))
    boxes = place_labels(points, [LETTER * len(label) for label, *_ in marks], crossed, area)
    for (across, up), box in zip(points, boxes, strict=True):
        if not box.top - 2 <= up <= box.bottom + 2:
            body.append(draw_line(across, up, *_near_end(across, box), "leader"))
    for place, (mark, (across, up)) in enumerate(zip(marks, points, strict=True)):
        shape = draw_shape(mark[1], across, up)
        if any(math.dist((across, up), later) < 3 for later in points[place + 1 :]):
            # Its edge stays in sight around the mark that comes on top.
            around = Markup('<g transform="translate({:.1f} {:.1f}) scale(1.7)">{}</g>')
            shape = around.format(across, up, draw_shape(mark[1], 0, 0))
        body.append(Markup("<g><title>{}</title>{}</g>").format(_told(*mark), shape))
    for (label, *_), (across, _), box in zip(marks, points, boxes, strict=True):
        end, _ = _near_end(across, box)
        anchor = "start" if end == box.left else "end"
        # Below the words their own outline in the paper's colour: what they cross does not strike them through.
        body += [draw_text(end, box.bottom - 3, label, kind, anchor=anchor) for kind in ("halo", "label")]
    return body


def _near_end(across: float, box: Box) -> tuple[float, float]:
    return (box.left if box.left > across else box.right), (box.top + box.bottom) / 2


def _told(label: str, _: int, gain: Interval, recall: Interval) -> str:
    return f"{label}: judge {gain.value:+.1f} %, Recall@10 {recall.value:+.4f}"


def _gain_and_recall(difference: dict[str, Any]) -> tuple[Interval, Interval] | None:
    """In per cent, and as it is; None where either was not measured."""
    if "judge_gain" not in difference or "recall@10" not in difference:
        return None
    gain, recall = ([difference[name][key] for key in ("value", "low", "high")] for name in ("judge_gain", "recall@10"))
    return Interval(*(100 * value for value in gain)), Interval(*recall)


def _styles(names: Sequence[str]) -> dict[str, int]:
    """The styles of objectives; names without one take those that are free."""
    free = [style for style in range(9) if style not in STYLES.values()]
    others = [name for name in names if name not in STYLES]
    return STYLES | {name: free[place % len(free)] for place, name in enumerate(others)}


def _curve(
    row: Row, name: str, factor: float = 1.0, *, positive: bool = False
) -> tuple[tuple[float, float | None], ...]:
    """The curve over steps; values without a place are gaps: those that are not finite, and of `positive` ones 0 and less."""
    curves = row.get("curves", {})
    steps, values = curves.get("step", []), curves.get(name, [])
    gaps = [value is None or not math.isfinite(value) or (positive and value <= 0) for value in values]
    kept = [None if gap else value * factor for value, gap in zip(values, gaps, strict=True)]
    return tuple(zip(steps, kept, strict=True)) if values else ()


def _drawn(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.known()]


if __name__ == "__main__":
    sys.exit(main())
