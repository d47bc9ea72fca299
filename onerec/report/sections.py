"""Charts of the sections below the comparison: training curves, alignment curves, for whom a model works.

Every function returns an empty list when the run did not record what its section needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.models import Model
from onerec.report.values import BREAKDOWNS, as_interval, as_number, as_sequence, count, figure, plain

Log = Sequence[Mapping[str, Any]]  # lines of a metrics.jsonl
Curve = tuple[
    str, Callable[[float], str], bool
]  # its title, how its figures are written, whether its axis begins at zero
VALIDATION = "valid/ndcg@10"
TRAINING: dict[str, Curve] = {
    "loss": ("Training loss", "{:.3f}".format, False),
    VALIDATION: ("Validation NDCG@10", figure, True),
    "targets_per_second": ("Targets per second", count, True),
}
ALIGNMENT: dict[str, Curve] = {
    "reward": ("Reward, mean", plain, False),
    "reward_spread": ("Reward, spread within a group", plain, False),
    "kl_to_start": ("KL to the start, nats an item", plain, True),
    "entropy": ("Entropy of the choices, nats", plain, False),
    "legality": ("Legal generations, share", plain, True),
    "items_in_batch": ("Different items, share of a batch", plain, True),
    "ratio_max": ("Ratio to the old policy, largest", plain, False),
    "gradient_norm": ("Gradient norm", plain, True),
    "next_code_loss": ("Next-code loss", plain, False),
}


def training_section(models: Sequence[Model], logs: Mapping[str, Log]) -> list[dict[str, Any]]:
    """Per trained model its loss, its validation NDCG@10 and its speed over steps; the validation axis is shared."""
    valid = {name: curve_of(lines, VALIDATION) for name, lines in logs.items()}
    top = max((value for curve in valid.values() for _, value in curve), default=None)
    section: list[dict[str, Any]] = []
    for model in (model for model in models if model.name in logs):
        best = max(valid[model.name], key=lambda point: point[1], default=None)
        more = {VALIDATION: {"top": top, "best": best}}
        if panels := curve_panels(TRAINING, logs[model.name], model.style, more):
            words = f"best validation NDCG@10 {figure(best[1])} at step {count(best[0])}" if best else ""
            section.append({"model": model, "panels": panels, "words": words})
    return section


def alignment_section(logs: Mapping[str, Log]) -> dict[str, list[dict[str, Any]]]:
    """Curves of each alignment by its objective."""
    return {objective: panels for objective, lines in logs.items() if (panels := curve_panels(ALIGNMENT, lines))}


def curve_panels(
    curves: Mapping[str, Curve], lines: Log, style: int = 0, more: Mapping[str, dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """A chart of every figure that a log has, over the same steps; `more`: options of `charts.line_chart` by figure."""
    found = {key: points for key in curves if (points := curve_of(lines, key))}
    last_step = max((points[-1][0] for points in found.values()), default=0.0)
    panels = []
    for key, points in found.items():
        title, write, from_zero = curves[key]
        options: dict[str, Any] = {"style": style, "from_zero": from_zero, "last_step": last_step}
        panels.append(charts.line_chart(title, points, write, **options, **(more or {}).get(key, {})))
    return panels


def curve_of(lines: Log, key: str) -> list[tuple[float, float]]:
    """(step, value) in step order. Should a step stand twice, the later line counts."""
    points = ((as_number(line.get("step")), as_number(line.get(key))) for line in lines)
    return sorted({step: value for step, value in points if step is not None and value is not None}.items())


def breakdown_section(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Recall@10 by popularity of the target, by length of the history and for cold items, all models in each bucket."""
    section: list[dict[str, Any]] = []
    for key, title in BREAKDOWNS.items():
        buckets: dict[str, dict[str, Any]] = {}
        for model in models:
            for entry in as_sequence(model.data.get(key)):
                bucket = buckets.setdefault(str(entry["bucket"]), {"cases": entry["cases"], "rows": []})
                bucket["rows"].append((model, as_interval(entry["recall@10"]), as_interval(entry.get("ndcg@10"))))
        rows = [
            Row(
                name,
                tuple(Mark(model.label, recall, model.style) for model, recall, _ in bucket["rows"] if recall),
                f"{count(bucket['cases'])} cases",
            )
            for name, bucket in buckets.items()
        ]
        if rows:
            section.append({**charts.interval_chart(title, rows, figure), "buckets": buckets})
    return section
