"""The main part of the report: tables of all models, charts of their figures, paired differences, and what each took."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from onerec.evaluate.metrics import CUTOFFS
from onerec.report import charts
from onerec.report.charts import Interval, Mark, Row
from onerec.report.models import COMPARED, HEADLINE, Comparison, Model
from onerec.report.values import (
    METRICS,
    as_mapping,
    as_number,
    figure,
    metric_name,
    signed,
    verdict,
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
        "coverages": coverages,
        "cutoffs": [f"@{cutoff}" for cutoff in CUTOFFS],
        "groups": [{"name": name, **table} for name, rows in groups.items() if (table := _table(rows))["rows"]],
        "panels": [chart for metric in HEADLINE if (chart := figure_chart(measured, part, metric))],
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
    rows = [Row(model.label, (Mark(model.label, each, model.style),), figure(each.value)) for model, each in found]
    return charts.interval_chart(metric_name(metric), rows, figure) if rows else None


def paired_section(comparison: Comparison) -> dict[str, Any] | None:
    """Charts against the generator alone and against the best baseline, and a table of every pair."""
    metrics = [m for m in COMPARED if any(comparison.difference(left, right, m) for left, right in comparison.pairs)]
    if not metrics:
        return None
    panels = []
    for other in (comparison.generator, comparison.best_baseline):
        panels += [panel for metric in HEADLINE if other and (panel := _differences(comparison, other, metric))]
    rows = [
        (f"{left.label} − {right.label}", [comparison.difference(left, right, metric) for metric in metrics])
        for left, right in comparison.pairs
    ]
    return {"panels": panels, "rows": rows, "metrics": list(map(metric_name, metrics))}


def _differences(comparison: Comparison, other: Model, metric: str) -> dict[str, Any] | None:
    """What each list of the generator has more than the other model."""
    rows = []
    for model in comparison.own:
        difference = comparison.difference(model, other, metric)
        if difference and model is not other:
            note = f"{signed(difference.value)} {verdict(difference).removesuffix(' with')}"
            rows.append(Row(model.label, (Mark(model.label, difference, model.style),), note.rstrip()))
    title = f"{metric_name(metric)} against {other.label}{' alone' if other is comparison.generator else ''}"
    return charts.interval_chart(title, rows, signed) if rows else None


def bytes_on_disk(model: Model, comparison: Comparison, folder: Path) -> int | None:
    """Bytes that a trained model takes in a run's folder; None for a model without a folder of its own there.

    A generator counts with the semantic IDs that its folder holds.
    """
    files = [folder / "baselines" / model.name / "best.safetensors"]
    if model is comparison.generator:
        files = list((folder / "generator" / "model").rglob("*"))
    elif objective := model.data.get("objective"):
        files = list((folder / f"aligned_{objective}" / "model").rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file()) or None
