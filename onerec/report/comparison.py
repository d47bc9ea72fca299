"""The main part of the report: tables of all models, charts of their figures, paired differences, and what each took."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from onerec.evaluate.metrics import CUTOFFS
from onerec.report import charts
from onerec.report.charts import Interval, Mark, Row
from onerec.report.models import COMPARED, GENERATOR, HEADLINE, Comparison, Model
from onerec.report.values import (
    METRICS,
    as_mapping,
    as_number,
    figure,
    metric_name,
    percent,
    signed,
    verdict,
    with_interval,
)


def main_table(models: Sequence[Model], part: str) -> dict[str, Any] | None:
    """Charts and tables of one part ("test" or "valid"); None when no model has a figure there."""
    measured = [model for model in models if as_mapping(model.data.get(part))]
    if not measured:
        return None
    metrics = [metric for metric in COMPARED if any(model.interval(metric, part) for model in measured)]
    coverages = [as_number(as_mapping(model.data[part]).get("coverage@10")) for model in measured]
    groups = {
        name: [(model, [model.interval(f"{metric}@{cutoff}", part) for cutoff in CUTOFFS]) for model in measured]
        for metric, name in METRICS.items()
    }
    return {
        "part": part,
        "cases": next((cases for model in measured if (cases := as_number(model.data[part].get("cases")))), None),
        "metrics": [metric_name(metric) for metric in metrics],
        **_table([(model, [model.interval(metric, part) for metric in metrics]) for model in measured]),
        "coverages": ["" if share is None else percent(share) for share in coverages],
        "cutoffs": [f"@{cutoff}" for cutoff in CUTOFFS],
        "groups": [{"name": name, **table} for name, rows in groups.items() if (table := _table(rows))["rows"]],
        "panels": [panel for metric in HEADLINE if (panel := figure_chart(measured, part, metric))],
    }


def _table(rows: Iterable[tuple[Model, list[Interval | None]]]) -> dict[str, Any]:
    """Rows of models that have a figure at all, and the highest figure of each column."""
    kept = [(model, cells) for model, cells in rows if any(cells)]
    columns = zip(*(cells for _, cells in kept), strict=True)
    best = [max((cell.value for cell in column if cell), default=None) for column in columns]
    return {"rows": kept, "best": best}


def figure_chart(models: Sequence[Model], part: str, metric: str) -> dict[str, Any] | None:
    """One figure of all models with its intervals; None where no model has it."""
    found = [(model, interval) for model in models if (interval := model.interval(metric, part))]
    if not found:
        return None
    rows = [Row(model.label, (Mark(model.label, each, model.style),), figure(each.value)) for model, each in found]
    words = "; ".join(f"{model.label} {with_interval(each)}" for model, each in found)
    title = metric_name(metric)
    return {"title": title, "chart": charts.interval_chart(rows, f"{title}. {words}.", figure)}


def paired_section(comparison: Comparison) -> dict[str, Any] | None:
    """Charts against the generator alone and against the best baseline, and a table of every pair."""
    labels = comparison.labels
    rows: list[dict[str, Any]] = []
    for name in comparison.paired:
        left, _, right = name.partition(" - ")
        pair = [model for side in (left, right) for model in comparison.models if model.name == side]
        if len(pair) == 2:
            found = {metric: comparison.difference(pair[0], pair[1], metric) for metric in COMPARED}
            if any(found.values()):
                rows.append({"label": f"{labels[left]} − {labels[right]}", "intervals": found})
    if not rows:
        return None
    metrics = {metric: metric_name(metric) for metric in COMPARED if any(row["intervals"][metric] for row in rows)}
    panels = []
    for other in (comparison.generator, comparison.best_baseline):
        panels += [panel for metric in HEADLINE if other and (panel := _differences(comparison, other, metric))]
    return {"panels": panels, "rows": rows, "metrics": metrics}


def _differences(comparison: Comparison, other: Model, metric: str) -> dict[str, Any] | None:
    """What each list of the generator has more than the other model."""
    rows = []
    for model in comparison.own:
        difference = comparison.difference(model, other, metric)
        if difference and model is not other:
            note = f"{signed(difference.value)} {verdict(difference).removesuffix(' with')}"
            rows.append(Row(model.label, (Mark(model.label, difference, model.style),), note.rstrip()))
    if not rows:
        return None
    title = f"{metric_name(metric)} against {other.label}{' alone' if other.role == GENERATOR else ''}"
    words = "; ".join(f"{row.label} {row.note}" for row in rows)
    return {"title": title, "chart": charts.interval_chart(rows, f"{title}. {words}.", signed)}


def cost_rows(models: Sequence[Model], folder: Path) -> list[dict[str, Any]]:
    """Parameters, size on disk, training time and speed of every model; empty where no model has any of them."""
    rows = []
    for model in models:
        costs = {
            "parameters": model.number("parameters"),
            "size": model.number("model_bytes") or bytes_on_disk(model, folder),
            "train_seconds": model.number("train_seconds"),
            "speed": model.number("recommend_users_per_second"),
        }
        rows.append({"model": model, "known": any(costs.values()), **costs})
    return rows if any(row["known"] for row in rows) else []


def bytes_on_disk(model: Model, folder: Path) -> int | None:
    """Bytes that a trained model takes in a run's folder; None for a model without a folder of its own there.

    A generator counts with the semantic IDs that its folder holds.
    """
    files = [folder / "baselines" / model.name / "best.safetensors"]
    if model.role == GENERATOR:
        files = list((folder / "generator" / "model").rglob("*"))
    elif objective := model.data.get("objective"):
        files = list((folder / f"aligned_{objective}" / "model").rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file()) or None
