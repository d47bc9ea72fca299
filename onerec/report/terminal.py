"""The comparison as a table on the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onerec.evaluate.metrics import CUTOFFS
from onerec.run.models import P_SCORE

WITH_INTERVALS = ("recall@10", "ndcg@10")
BREAKDOWNS = {
    "by_popularity": "recall@10 by training events of the target (cases)",
    "by_history_length": "recall@10 by events before the target (cases)",
    "by_cold": "recall@10 of items never seen in training (cases)",
}


def print_comparison(results: dict[str, Any], console: Console) -> None:
    """Print test figures with 95 % intervals, parameters and seconds per model, and the paired differences."""
    protocol, cases = results["protocol"], results["models"]["onerec"]["test"]["cases"]
    table = Table(title=f"{results['dataset']['name']}: test, {cases:,} users", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    judge = results.get("judge")
    for name in (*WITH_INTERVALS, "recall@50", "by ID@10", *([P_SCORE] if judge else []), "covered", "train s"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in results["models"].values():
        test = model["test"]
        table.add_row(
            model["label"],
            *(interval_text(test[name]) for name in WITH_INTERVALS),
            share_text(test["recall@50"]["value"]),
            share_text(test["id_recall@10"]["value"]) if "id_recall@10" in test else "",
            *([interval_text(test[P_SCORE])] if judge else []),
            f"{test['coverage@10']:.0%}",
            f"{model['train_seconds']:,.0f}",
        )
    # Where the terminal is narrower its lines wrap; figures cut off in the middle would be worse.
    table.width = Measurement.get(console, console.options.update_width(200), table).maximum
    console.print(table)
    for pair, figures in results["paired"].items():
        named = [name for name in (*WITH_INTERVALS, P_SCORE) if name in figures]
        console.print(f"{pair}: " + ", ".join(f"{name} {_signed(figures[name])}" for name in named))
    seen = "seen items excluded" if protocol["exclude_seen"] else "seen items allowed"
    console.print(
        f"Hits on items, full ranking, {seen}, beam {protocol['beam_width']}. (low-high): 95 % bootstrap interval. "
        "by ID: recall@10 if any item with the target's codes before resolving counted, as open implementations do."
    )
    if judge:
        console.print(f"{P_SCORE}: mean P-Score of the first ten by the {judge}, which neither rewarded nor selected.")


def print_details(results: dict[str, Any], console: Console) -> None:
    """Print what the comparison leaves out: every cut-off, and recall@10 by popularity, history length and for cold items."""
    for measure in ("recall", "ndcg", "mrr", "id_recall"):
        rows = {
            model["label"]: [share_text(model["test"][f"{measure}@{k}"]["value"]) for k in CUTOFFS]
            for model in results["models"].values()
            if f"{measure}@{CUTOFFS[0]}" in model["test"]
        }
        _print_rows(measure, [f"@{k}" for k in CUTOFFS], rows, console)
    for breakdown, title in BREAKDOWNS.items():
        models = results["models"].values()
        buckets = [f"{row['bucket']} ({row['cases']:,})" for row in next(iter(models))[breakdown]]
        rows = {model["label"]: [share_text(row["recall@10"]["value"]) for row in model[breakdown]] for model in models}
        _print_rows(title, buckets, rows, console)


def _print_rows(title: str, columns: list[str], rows: dict[str, list[str]], console: Console) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for label, cells in rows.items():
        table.add_row(label, *cells)
    console.print(table)


def share_text(value: float) -> str:
    """`.0653`: a share below one without its zero."""
    return f"{value:.4f}".removeprefix("0")


def interval_text(figure: dict[str, float]) -> str:
    """`.0653 (.0621-.0684)`."""
    value, low, high = (share_text(figure[key]) for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def _signed(figure: dict[str, float]) -> str:
    word = "above" if figure["low"] > 0 else "below" if figure["high"] < 0 else "level"
    return f"{figure['value']:+.4f} ({figure['low']:+.4f} to {figure['high']:+.4f}, {word})"
