"""What the sections below the comparison show, computed from `results.json` and the training logs.

Every function returns None or an empty list when the run did not record what its section needs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.codebook import level_panels, quality_in_words
from onerec.report.models import Model
from onerec.report.values import (
    BREAKDOWNS,
    FEATURES,
    as_interval,
    as_mapping,
    as_number,
    as_sequence,
    count,
    figure,
    readable,
    title_of,
)

DRAWN_POINTS = 120  # of a training curve; more are drawn as means of neighbours
SHOWN_HISTORY = 12


def selection_section(models: Sequence[Model]) -> dict[str, Any] | None:
    """The weights that selection from the beam uses, and what it gained where they were fitted; None without selection."""
    fitted = next((found for model in models if (found := as_mapping(model.data.get("selection")))), None)
    if not fitted:
        return None
    orders = {order: as_number(as_mapping(fitted.get(order)).get("ndcg@10")) for order in ("generated", "selected")}
    return {
        "weights": [
            (FEATURES.get(name, readable(name)), f"{value:+.2f}".replace("-", "−"))
            for name, raw in as_mapping(fitted.get("weights")).items()
            if (value := as_number(raw)) is not None
        ],
        "cases": as_number(fitted.get("cases")),
        "proposed": as_number(fitted.get("proposed")),
        **orders,
    }


def training_section(models: Sequence[Model], logs: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Per trained model its loss, its validation NDCG@10 and its speed over steps; the validation axis is shared."""
    names = ("loss", "valid/ndcg@10", "targets_per_second")
    curves = {name: [curve_of(lines, key) for key in names] for name, lines in logs.items()}
    best_of_all = max((value for _, valid, _ in curves.values() for _, value in valid), default=None)
    section: list[dict[str, Any]] = []
    for model in (model for model in models if any(curves.get(model.name, ()))):
        loss, valid, speed = curves[model.name]
        shared: dict[str, Any] = {"style": model.style, "last_step": max(step for step, _ in [*loss, *valid, *speed])}
        panels, words = [], ""
        if loss:
            spoken = f"Training loss of {model.label}, from {loss[0][1]:.3f} to {loss[-1][1]:.3f}."
            chart = charts.line_chart(charts.thin(loss, DRAWN_POINTS), spoken, "{:.3f}".format, **shared)
            panels.append({"title": "Training loss", "chart": chart})
        if valid:
            best = max(valid, key=lambda point: point[1])
            words = f"best validation NDCG@10 {figure(best[1])} at step {count(best[0])}"
            shown = valid if len(valid) <= DRAWN_POINTS else sorted({*charts.thin(valid, DRAWN_POINTS), best})
            spoken = f"Validation NDCG@10 of {model.label}: {words}."
            chart = charts.line_chart(shown, spoken, figure, from_zero=True, top=best_of_all, best=best, **shared)
            panels.append({"title": "Validation NDCG@10", "chart": chart})
        if speed:
            middle = sorted(value for _, value in speed)[len(speed) // 2]
            spoken = f"Targets per second while training {model.label}, {count(middle)} in the middle."
            chart = charts.line_chart(charts.thin(speed, DRAWN_POINTS), spoken, count, from_zero=True, **shared)
            panels.append({"title": "Targets per second", "chart": chart})
        section.append({"model": model, "panels": panels, "steps": shared["last_step"], "words": words})
    return section


def breakdown_section(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Recall@10 by popularity of the target, by length of the history and for cold items, all models in each bucket."""
    section: list[dict[str, Any]] = []
    for key, title in BREAKDOWNS.items():
        buckets: dict[str, dict[str, Any]] = {}
        for model in models:
            for entry in (as_mapping(raw) for raw in as_sequence(model.data.get(key))):
                if recall := as_interval(entry.get("recall@10")):
                    new: dict[str, Any] = {"cases": as_number(entry.get("cases")), "models": []}
                    bucket = buckets.setdefault(str(entry.get("bucket", "?")), new)
                    bucket["models"].append((model, recall, as_interval(entry.get("ndcg@10"))))
        if not buckets:
            continue
        rows = [
            Row(
                name,
                tuple(Mark(model.label, recall, model.style) for model, recall, _ in bucket["models"]),
                "" if bucket["cases"] is None else f"{count(bucket['cases'])} cases",
            )
            for name, bucket in buckets.items()
        ]
        words = "; ".join(
            f"{row.label}: " + ", ".join(f"{m.name} {figure(m.interval.value)}" for m in row.marks) for row in rows
        )
        chart = charts.interval_chart(rows, f"Recall@10. {title}. {words}.", figure)
        section.append({"title": title, "chart": chart, "buckets": buckets})
    return section


def codebook_section(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Per level how much of the codebook is used and how evenly; then what the quality figures say."""
    semantic_ids = as_mapping(results.get("semantic_ids"))
    quality = as_mapping(semantic_ids.get("quality"))
    sizes, loads = as_sequence(semantic_ids.get("level_sizes")), as_sequence(semantic_ids.get("code_load"))
    if not (quality and sizes and len(sizes) == len(loads)):
        return None
    return {
        "levels": level_panels(sizes, loads, quality),
        "figures": quality_in_words(quality),
        "notes": [str(note) for note in as_sequence(quality.get("notes"))],
    }


def examples_section(results: Mapping[str, Any], models: Sequence[Model]) -> list[dict[str, Any]]:
    """A few users: the end of the history, the item that came next, and each model's list."""
    section: list[dict[str, Any]] = []
    for example in (as_mapping(raw) for raw in as_sequence(results.get("examples"))):
        history = [title_of(entry) for entry in as_sequence(example.get("history"))]
        recommendations = as_mapping(example.get("recommendations"))
        lists = []
        for model in models:
            entries = [as_mapping(raw) for raw in as_sequence(recommendations.get(model.name))]
            place = next((rank for rank, entry in enumerate(entries, 1) if entry.get("hit") is True), None)
            titles = [(title_of(entry), as_number(entry.get("score"))) for entry in entries]
            if entries:
                lists.append({"model": model, "titles": titles, "place": place})
        if history or lists:
            section.append(
                {
                    "user": str(example.get("user", "")),
                    "history": history[-SHOWN_HISTORY:],
                    "earlier": max(0, len(history) - SHOWN_HISTORY),
                    "target": title_of(example.get("target")),
                    "lists": lists,
                    "found": sum(found["place"] is not None for found in lists),
                }
            )
    return section


def curve_of(lines: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) in step order. Should a step stand twice, the later line counts."""
    points = {
        step: value
        for line in lines
        if (step := as_number(line.get("step"))) is not None and (value := as_number(line.get(key))) is not None
    }
    return sorted(points.items())
