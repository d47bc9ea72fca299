"""The figures of a reward model as tables on the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onerec.evaluate.bootstrap import Interval

COLUMNS = ("positives", "AUC", "GAUC", "predicted/observed", "ECE", "fusion AUC", "sum AUC", "fusion - sum")


def print_reward_table(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `evaluate_reward_model`, a row per objective."""
    titles = {"all": "test impressions", "others": "test impressions of users that it learnt nothing from"}
    for group, title in titles.items():
        if group in figures:
            console.print(_table(figures[group], f"reward model, {title}", figures["objectives"], console))
    console.print(
        "AUC: of the objective's tower. GAUC: AUC within users, weighted by impressions. sum: the towers' probabilities, "
        "weighted as the config says. (low to high): 95 % bootstrap interval over users.",
        highlight=False,
    )


def _table(figures: dict[str, Any], title: str, objectives: list[str], console: Console) -> Table:
    counts = f"{figures['impressions']:,} of {figures['users']:,} users"
    table = Table(title=f"{title}: {counts}", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("objective", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for name in objectives:
        if name in figures:
            table.add_row(name, *_cells(figures[name]))
    table.width = Measurement.get(console, console.options.update_width(220), table).maximum
    return table


def _cells(figures: dict[str, Any]) -> list[str]:
    auc, calibration = figures["auc"], figures["calibration"]
    ratio = calibration["ratio"]
    return [
        f"{figures['positives']:,}",
        _interval(auc["tower"]),
        _interval(figures["gauc"]["tower"]),
        "" if ratio is None else f"{ratio:.2f}",
        f"{calibration['error']:.4f}",
        _interval(auc["fusion"]),
        _interval(auc["sum"]),
        _interval(auc["fusion - sum"], "+"),
    ]


def _interval(found: Interval | None, sign: str = "") -> str:
    if found is None:
        return "none"
    return "{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})".format(sign=sign, **found)
