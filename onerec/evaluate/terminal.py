"""The comparison as a table on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("recall@10", "ndcg@10", "mrr@10", "recall@50")


def print_comparison(results: dict[str, Any], console: Console) -> None:
    """Print test figures with 95 % intervals, parameters and seconds per model, and the paired differences."""
    protocol = results["protocol"]
    table = Table(title=f"{results['dataset']['name']}: test, {results['models']['onerec']['test']['cases']:,} users")
    table.add_column("model")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for name in ("ID-level R@10", "coverage@10", "parameters", "train s"):
        table.add_column(name, justify="right")
    for model in results["models"].values():
        test = model["test"]
        table.add_row(
            model["label"],
            *(interval_text(test[name]) for name in COLUMNS),
            f"{test['id_recall@10']['value']:.4f}" if "id_recall@10" in test else "",
            f"{test['coverage@10']:.1%}",
            f"{model['parameters']:,}" if model["parameters"] else "",
            f"{model['train_seconds']:,.0f}",
        )
    console.print(table)
    for pair, figures in results["paired"].items():
        console.print(f"{pair}: recall@10 {_signed(figures['recall@10'])}, ndcg@10 {_signed(figures['ndcg@10'])}")
    seen = "seen items excluded" if protocol["exclude_seen"] else "seen items allowed"
    console.print(f"Full ranking on items, {seen}, beam {protocol['beam_width']}; [low, high] are 95 % bootstrap intervals.")


def interval_text(figure: dict[str, float]) -> str:
    """`.0653 [.0621, .0684]`, without the zero that every such figure begins with."""
    value, low, high = (f"{figure[key]:.4f}".removeprefix("0") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _signed(figure: dict[str, float]) -> str:
    word = "above" if figure["low"] > 0 else "below" if figure["high"] < 0 else "level"
    return f"{figure['value']:+.4f} [{figure['low']:+.4f}, {figure['high']:+.4f}] ({word})"
