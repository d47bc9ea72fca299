"""A run on the terminal: one table of all models, sentences on what it shows, and where to look next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from onerec.evaluate.metrics import CUTOFFS
from onerec.report.charts import Interval
from onerec.report.models import HEADLINE, Model, read_models
from onerec.report.values import (
    BREAKDOWNS,
    METRICS,
    as_mapping,
    as_sequence,
    count,
    figure,
    metric_name,
    signed,
    verdict,
    with_interval,
)
from onerec.report.verdicts import verdicts
from onerec.run.models import P_SCORE

SENTENCES = 3  # of the verdicts; the page has all
NARROWEST_NAME = 18  # letters of a name that stay in one line, whatever stands beside it
COLUMNS = {
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "recall@50": "Recall@50",
    "coverage@10": "Coverage",
    P_SCORE: "P-Score",
    "training": "Training",
}
LEFT_OUT = ("coverage@10", "recall@50", "training", P_SCORE, "ndcg@10")  # in this order, on a narrow terminal


def print_comparison(results: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the table of all models on test data, what it says, and where to look next.

    100 columns hold all columns of the demo; a narrower console gets fewer columns, never half a figure.
    """
    comparison = read_models(results)
    rows = {model.label: _cells(model) for model in comparison.models}
    cases = next((as_mapping(model.data.get("test")).get("cases", 0) for model in comparison.models), 0)
    title = f"{results['dataset']['name']}: {count(cases)} test users, 95 % intervals in brackets"
    console.print(_fitting_table(title, COLUMNS, rows, console, whole_names=True), "")
    for about, words in verdicts(comparison)[:SENTENCES]:
        console.print(f"[bold]{about}[/bold]: {escape(words)}", highlight=False)
    user = next((example["user"] for example in as_sequence(results.get("examples"))), "ID")
    look = [
        f"Page:     {folder / 'report.html'}  (figures: {folder / 'results.json'})",
        f"A list:   onerec recommend {folder} --user {user}",
        "Meaning:  docs/evaluation.md",
    ]
    # A path or a command that is broken over two lines cannot be copied.
    console.print("\n".join(["", *look]), highlight=False, markup=False, soft_wrap=True)


def print_details(results: Mapping[str, Any], console: Console) -> None:
    """Print what the comparison leaves out: every cut-off, Recall@10 by kinds of cases, and all paired differences."""
    comparison = read_models(results)
    for metric, title in METRICS.items():
        found = {m.label: [m.interval(f"{metric}@{cutoff}") for cutoff in CUTOFFS] for m in comparison.models}
        rows = {label: [figure(each.value) if each else "" for each in row] for label, row in found.items() if any(row)}
        console.print(_table(title, [f"@{cutoff}" for cutoff in CUTOFFS], rows), "")
    for breakdown, title in BREAKDOWNS.items():
        buckets = {model.label: as_sequence(model.data.get(breakdown)) for model in comparison.models}
        heads = [f"{bucket['bucket']}\n{count(bucket['cases'])} cases" for bucket in next(iter(buckets.values()), [])]
        rows = {label: [figure(bucket["recall@10"]["value"]) for bucket in row] for label, row in buckets.items()}
        console.print(_table(f"Recall@10. {title}", heads, rows), "")
    metrics = {metric: metric_name(metric) for metric in (*HEADLINE, P_SCORE)}
    for left in comparison.own:
        differences = {
            right.label: {
                m: _difference(interval) for m in metrics if (interval := comparison.difference(left, right, m))
            }
            for own, right in comparison.pairs
            if own is left
        }
        if differences:
            console.print(_fitting_table(f"On the same users: {left.label} minus", metrics, differences, console), "")
    console.print("In brackets: 95 % intervals over users. *: the interval leaves out zero.", highlight=False)


def _fitting_table(
    title: str,
    heads: Mapping[str, str],
    rows: Mapping[str, Mapping[str, str]],
    console: Console,
    *,
    whole_names: bool = False,
) -> Table:
    """A table of the columns that any row has, without those of LEFT_OUT that the console has no room for.

    `whole_names`: a column goes before a name is broken over two lines.
    """
    names = [name for name in heads if any(name in row for row in rows.values())]
    for name in ("", *LEFT_OUT):
        names = [kept for kept in names if kept != name]
        cells = {label: [row.get(kept, "") for kept in names] for label, row in rows.items()}
        table = _table(title, [heads[kept] for kept in names], cells)
        width = Measurement.get(console, console.options.update_width(1000), table)
        if (width.maximum if whole_names else width.minimum) <= console.width:
            break
    return table


def _table(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    """A table in which names may be broken over lines, and figures may not."""
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("Model", min_width=min(NARROWEST_NAME, max(map(len, rows), default=0)))
    for place, head in enumerate(heads):
        column = [*head.splitlines(), *(cells[place] for cells in rows.values())]
        table.add_column(head, justify="right", no_wrap=True, min_width=max(map(len, column)))
    for label, cells in rows.items():
        table.add_row(escape(label), *cells)
    return table


def _cells(model: Model) -> dict[str, str]:
    """What a row of the table holds, by column; what was not measured is absent."""
    cells = {metric: figure(found.value) for metric in COLUMNS if (found := model.interval(metric))}
    if recall := model.interval("recall@10"):
        cells["recall@10"] = with_interval(recall)
    if coverage := model.interval("coverage@10"):
        cells["coverage@10"] = f"{coverage.value:.0%}"
    if (seconds := model.number("train_seconds")) is not None:
        cells["training"] = f"{count(seconds)} s"
    return cells


def _difference(difference: Interval) -> str:
    """`+.0109* (+.0008 to +.0208)`"""
    value, bracket, ends = with_interval(difference, signed).partition(" (")
    return f"{value}{'*' if verdict(difference) in ('above', 'below') else ''}{bracket}{ends}"
