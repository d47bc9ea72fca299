"""Charts of the alignment benchmark, drawn with matplotlib from its results file alone.

    python -m benchmarks.alignment.charts benchmarks/results/alignment-kuairand.json --out docs/figures

Writes `alignment-tradeoff.svg`, `alignment-legality.svg`, `alignment-gradients.svg`, `alignment-pass-at-k.svg` and
`alignment-curves.svg`. Rows that the file lacks are left out, and charts without any row are not written. The same file gives
the same bytes. File names do not name the dataset: charts of another one belong in another folder. Needs the extra `benchmarks`.
"""

import argparse
import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.alignment.rows import MAIN
from benchmarks.output.text import ENDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = dict[str, dict[str, Any]]
# Colour, marker and dashes of objectives and format rewards, the same in every chart. Colour-blind readers can tell these colours
# of Okabe and Ito apart. ECPO and GRPO often coincide, so GRPO is a cross, seen on a disc, and dashes, seen on a line.
STYLES: dict[str, tuple[str, str, Any]] = {
    "ecpo": ("#0072b2", "o", "-"),
    "grpo": ("#d55e00", "x", (0, (4, 4))),
    "gbpo": ("#009e73", "s", "-"),
    "dpo": ("#cc79a7", "^", "-"),
    "ipa": ("#b07d00", "D", (0, (4, 4))),
    "next_code": ("#56b4e9", "v", "-"),
    "start": ("#444444", "P", "-"),
}
FORMATS = {"format_top": "ecpo", "format_random": "grpo", "format_none": "gbpo"}
SEARCHES = {"beam": "Lists of the generator", "selection": "Lists that the reward model selects"}
# The shipped config weighs the next-code loss sevenfold. Names of rows that weigh it once end in a number.
HOLDS = {"": "Next-code loss x 7", "_1": "Next-code loss x 1", "_10": "and format reward x 10"}
GROWING = {
    "ratio_max_largest": ("Ratios", "largest, as the objective bounds it"),
    "negative_coefficient_largest": ("Negative advantages", "largest mean factor of gradients"),
    "negative_gradient_norm_largest": ("Gradients", "largest norm of the downward part"),
}
PASSES = {
    "judge": ("Best P-Score of the first K items", "gain over the start, %"),
    "hit": ("Users with a hit in the first K", "difference to the start, points"),
}
TRAINING = {
    "reward": ("Reward", "mean over generated items", 1),
    "kl_to_start": ("Distance to the start", "KL divergence of items, nats", 1),
    "entropy": ("Entropy", "of all codes of an item, nats", 1),
    "items_in_batch": ("Diversity", "different items in a batch, %", 100),
}
# Text stays text, which keeps files small. matplotlib measures it in DejaVu Sans, which is wider than most readers' fonts.
SETTINGS = {
    "svg.hashsalt": "onerec",
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.5,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def tradeoff(panels: "list[Axes]", rows: Rows) -> None:
    """Gain of the judge's P-Score against the difference in Recall@10, with 95 % intervals of both."""
    for axes, (search, title) in zip(panels, SEARCHES.items(), strict=True):
        axes.set(title=title, xlabel="gain of the judge's P-Score, %", ylabel="difference in Recall@10")
        axes.axhline(0, color="#888888", linewidth=1)
        for row in of_objectives(rows):
            difference = row.get(search, {}).get("difference", {})
            if "judge_gain" in difference and "recall@10" in difference:
                colour, marker, _ = style_of(row["name"])
                x, *x_ends = (100 * difference["judge_gain"][end] for end in ENDS)
                y, *y_ends = (difference["recall@10"][end] for end in ENDS)
                axes.plot(x_ends, [y, y], [x, x], y_ends, color=colour, alpha=0.5)
                axes.plot([x], [y], color=colour, marker=marker, markersize=7, linestyle="", label=row["label"])


def legality(panels: "list[Axes]", rows: Rows) -> None:
    """The share of free samples that are items, with and without format reward."""
    for axes, (ending, title) in zip(panels, HOLDS.items(), strict=True):
        axes.set(title=title, xlabel="step", ylabel="legal samples, %")
        for name, style in FORMATS.items():
            if row := rows.get(
                name + ending
            ):  # titles say how panels differ, so one label stands for the rows of all three
                plot_curve(axes, row, "legality", style, factor=100, label=rows.get(name, row)["label"])


def gradients(panels: "list[Axes]", rows: Rows) -> None:
    """How far ratios and gradients go when nothing holds the policy near the generator that makes the groups."""
    from matplotlib.ticker import LogLocator

    for axes, (curve, (title, y_label)) in zip(panels, GROWING.items(), strict=True):
        axes.set(title=title, xlabel="step", ylabel=y_label)
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        for objective in ("ecpo", "grpo", "gbpo"):
            if row := rows.get(f"drift_{objective}"):
                plot_curve(axes, row, curve, objective)


def pass_at_k(panels: "list[Axes]", rows: Rows) -> None:
    """The judge's best among the first K items, and the users with a hit among them, against the start's."""
    for axes, (kind, (title, y_label)) in zip(panels, PASSES.items(), strict=True):
        axes.set(title=title, xlabel="K (outside the grey band, 95 % intervals exclude zero)", ylabel=y_label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.axhline(0, color="#888888", linewidth=1)
        band: dict[int, list[float]] = {}
        for row in of_objectives(rows):
            found = row.get("pass_at_k", {}).get(f"{kind}_difference", {})
            start = rows.get(row["start"], {}).get("pass_at_k", {}).get(kind, {})
            if not found or not start:
                continue
            values = []
            for k, figure in found.items():
                value, low, high = (100 * figure[end] / (start[k]["value"] if kind == "judge" else 1) for end in ENDS)
                values.append(value)
                band.setdefault(int(k), [0.0]).extend((value - low, value - high))
            colour, marker, dashes = style_of(row["name"])
            options = {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 5, "label": row["label"]}
            axes.plot([int(k) for k in found], values, **options)
        axes.set_ylim(axes.get_ylim())  # as far as the lines go; the band is cut off there
        axes.fill_between(list(band), [*map(min, band.values())], [*map(max, band.values())], color="#eee", zorder=0)


def training(panels: "list[Axes]", rows: Rows) -> None:
    """Reward, distance to the start, entropy and diversity over the steps."""
    for axes, (curve, (title, y_label, factor)) in zip(panels, TRAINING.items(), strict=True):
        axes.set(title=title, xlabel="step", ylabel=y_label)
        for row in of_objectives(rows):
            # Rewards that are made of other things do not belong on one axis.
            if curve != "reward" or not any(one.startswith("align.rewards.") for one in row.get("settings", ())):
                plot_curve(axes, row, curve, row["name"], factor=factor)


def of_objectives(rows: Rows) -> list[dict[str, Any]]:
    """The rows that compare objectives."""
    return [row for row in rows.values() if row.get("group") == MAIN]


def style_of(name: str) -> tuple[str, str, Any]:
    """Colour, marker and dashes of a row."""
    return STYLES.get(name, ("#000000", "*", "-"))


def plot_curve(
    axes: "Axes", row: dict[str, Any], name: str, style: str, *, factor: float = 1, label: str | None = None
) -> None:
    """A row's curve over the steps of alignment; unknown values are gaps. Nothing where the row has no such curve."""
    curves = row.get("curves", {})
    if name in curves:
        values = [math.nan if value is None else factor * value for value in curves[name]]
        colour, _, dashes = style_of(style)
        axes.plot(curves["step"], values, color=colour, linestyle=dashes, label=label or row["label"])


# Title, size in inches, rows and columns of panels, whether they share their scales, and what draws them.
CHARTS: dict[str, tuple[str, tuple[float, float], tuple[int, int], bool, Callable[[list[Any], Rows], None]]] = {
    "tradeoff": ("What the judge gains and what Recall@10 pays", (7.8, 6.6), (2, 1), True, tradeoff),
    "legality": ("Legal codes under the format reward", (7.8, 3.6), (1, 3), True, legality),
    "gradients": ("Ratios and gradients far from the generator of the groups", (7.8, 3.4), (1, 3), False, gradients),
    "pass-at-k": ("Pass@K after alignment", (7.8, 4.0), (1, 2), False, pass_at_k),
    "curves": ("Objectives over the steps of alignment", (7.8, 6.0), (2, 2), False, training),
}


def write_chart(name: str, rows: Rows, path: Path) -> bool:
    """Draw one of `CHARTS` into an SVG file; False, and no file, where no row belongs into it."""
    import matplotlib
    from matplotlib.figure import Figure

    from onerec.files import write_text

    title, size, shape, share, draw = CHARTS[name]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        panels = list(figure.subplots(*shape, sharex=share, sharey=share).flat)
        draw(panels, rows)
        shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if shown:
            figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=2)
            for axes in panels if share else ():
                axes.label_outer()
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
            write_text(path, smaller(stream.getvalue()))
    return bool(shown)


def smaller(svg: str) -> str:
    """The same picture with an element a line and coordinates to a tenth of a point; words stay as they are."""
    coordinate = re.compile(r"(?<=[\s\"(-])\d+\.\d{2,}")
    lines = re.sub(r'"[^"]*"', lambda value: " ".join(value[0].split()), re.sub(r"\n +", "\n", svg))
    # A group begins and ends with its elements.
    lines = re.sub(r"(<g\b[^>]*>)\n", r"\1", lines.replace("\n</g>", "</g>"))
    return coordinate.sub(lambda number: f"{float(number[0]):.1f}", lines)


def main() -> int:
    """Write the charts that the results file has rows for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what benchmarks.alignment wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the charts")
    parsed = parser.parse_args()
    content = json.loads(parsed.results.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in content["rows"] if "name" in row}
    paths = {name: parsed.out / f"alignment-{name}.svg" for name in CHARTS}
    written = {path: write_chart(name, rows, path) for name, path in paths.items()}
    for path, done in written.items():
        print(f"wrote {path}" if done else f"{path.name} left out: {parsed.results} has no row for it")
    return 0 if any(written.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
