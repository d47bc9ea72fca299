"""What each section of the report shows, computed from `results.json` and the training logs.

Every function returns None or an empty list when the run did not record what its section needs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from onerec.report import charts
from onerec.report.charts import Interval, Mark, Row
from onerec.report.values import (
    METRICS,
    as_interval,
    as_mapping,
    as_number,
    as_sequence,
    count,
    entry_at,
    figure,
    figure_with_interval,
    flatten,
    is_missing,
    metric_name,
    plain,
    title_of,
)
from onerec.run.models import P_SCORE

CUTOFFS = (1, 5, 10, 20, 50)
SHOWN_HISTORY = 12
BREAKDOWNS = {
    "by_popularity": "By popularity of the true item, events in training",
    "by_history_length": "By length of the history, events",
    "by_cold": "Items that training never showed",
}
KNOWN_LABELS = {
    "onerec": "OneRec",
    "onerec_selection": "OneRec + selection",
    "onerec_aligned": "OneRec, aligned",
    "onerec_reward_selection": "OneRec + reward selection",
    "onerec_aligned_selection": "OneRec, aligned, + reward selection",
    "sasrec": "SASRec",
    "item_knn": "Item-kNN",
    "content_knn": "Content-kNN",
    "popularity": "Popularity",
}

EVIDENCE_LABELS = {
    "log_probability": "log-probability of the generator, per nat",
    "item_score": "score of the item scorer",
    "co_occurrence": "logarithm of co-occurrence",
    "co_occurrence_root": "square root of co-occurrence",
    "directly_after": "logarithm of how often it came right after the newest event",
    "never_together": "never together with the history in training",
    "content_mean": "content like the history's mean, cosine",
    "content_most": "content like one event of the history, cosine",
    "behaviour_mean": "behaviour like the history's mean, cosine",
    "behaviour_most": "behaviour like one event of the history, cosine",
    "new": "never taken in training",
    "new_content_mean": "never taken, and content like the history's mean, cosine",
    "new_content_most": "never taken, and content like one event of the history, cosine",
}


@dataclass(frozen=True)
class Model:
    """One model of the run: its words, its series style in the charts, and its part of `results.json`."""

    name: str
    label: str
    style: int
    data: dict[str, Any]

    def interval(self, part: str, metric: str) -> Interval | None:
        return as_interval(as_mapping(self.data.get(part)).get(metric))

    def number(self, key: str) -> float | None:
        return as_number(self.data.get(key))


def own_first(name: str) -> int:
    """Sorting key: `onerec`, then its variants, then everything it is compared with."""
    return 0 if name == "onerec" else 1 if name.startswith("onerec") else 2


def list_models(results: dict[str, Any]) -> list[Model]:
    """All models, best NDCG@10 first; series style 0, the accent, belongs to OneRec wherever it stands."""
    entries = {name: data for name, data in as_mapping(results.get("models")).items() if isinstance(data, dict)}
    styles = {name: style for style, name in enumerate(sorted(entries, key=own_first))}
    models = [
        Model(name, str(data.get("label") or KNOWN_LABELS.get(name, name.replace("_", " "))), styles[name], data)
        for name, data in entries.items()
    ]

    def order(model: Model) -> float:
        best = model.interval("test", "ndcg@10") or model.interval("valid", "ndcg@10")
        return -best.value if best else math.inf

    return sorted(models, key=order)


def comparison_section(models: Sequence[Model], part: str) -> dict[str, Any] | None:
    """Charts and tables of one part ("test" or "valid"); None when no model has a figure there."""
    measured = [model for model in models if as_mapping(model.data.get(part))]
    if not measured:
        return None
    panels = []
    for metric in ("recall@10", "ndcg@10"):
        found = [(model, interval) for model in measured if (interval := model.interval(part, metric))]
        rows = [Row(m.label, (Mark(m.label, i, m.style),), figure(i.value)) for m, i in found]
        if rows:
            words = "; ".join(f"{model.label} {figure_with_interval(interval)}" for model, interval in found)
            title = metric_name(metric)
            panels.append({"title": title, "chart": charts.interval_chart(rows, f"{title}. {words}.", figure)})
    groups = []
    for key, name in METRICS.items():
        rows_of_metric = [(m, [m.interval(part, f"{key}@{cutoff}") for cutoff in CUTOFFS]) for m in measured]
        if any(interval for _, row in rows_of_metric for interval in row):
            groups.append(
                {"name": name, "rows": rows_of_metric, "best": _best_columns(row for _, row in rows_of_metric)}
            )
    summary: list[dict[str, Any]] = [
        {
            "model": model,
            "figures": [model.interval(part, metric) for metric in ("recall@10", "ndcg@10", "mrr@10")],
            "id_recall": model.interval(part, "id_recall@10"),
            "p_score": model.interval(part, P_SCORE),
            "coverage": as_number(as_mapping(model.data.get(part)).get("coverage@10")),
        }
        for model in measured
    ]
    return {
        "part": part,
        "panels": panels,
        "cutoffs": CUTOFFS,
        "groups": groups,
        "summary": summary,
        "best": _best_columns(row["figures"] for row in summary),
        "has_ids": any(row["id_recall"] for row in summary),
        "has_p_score": any(row["p_score"] for row in summary),
        "has_coverage": any(row["coverage"] is not None for row in summary),
        "has_parameters": any(model.number("parameters") is not None for model in measured),
        "has_seconds": any(model.number("train_seconds") is not None for model in measured),
        "cases": next((cases for m in measured if (cases := as_number(m.data[part].get("cases"))) is not None), None),
    }


def selection_section(models: Sequence[Model]) -> dict[str, Any] | None:
    """What selection from the beam weighs, and what it was worth where it was fitted; None without selection."""
    fitted = next((found for model in models if (found := as_mapping(model.data.get("selection")))), None)
    if not fitted:
        return None
    weights = {
        name: value for name, raw in as_mapping(fitted.get("weights")).items() if (value := as_number(raw)) is not None
    }
    orders = {order: as_number(as_mapping(fitted.get(order)).get("ndcg@10")) for order in ("generated", "selected")}
    return {
        "weights": [
            (EVIDENCE_LABELS.get(name, name.replace("_", " ")), f"{value:+.2f}") for name, value in weights.items()
        ],
        "cases": as_number(fitted.get("cases")),
        "proposed": as_number(fitted.get("proposed")),
        **orders,
    }


def training_section(models: Sequence[Model], logs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Per trained model its loss, its validation NDCG@10 and its speed over steps; the validation axis is shared."""
    known = {model.name: model for model in models}
    curves = {
        name: {key: curve_of(lines, key) for key in ("loss", "valid/ndcg@10", "targets_per_second")}
        for name, lines in logs.items()
    }
    best_of_all = max((value for c in curves.values() for _, value in c["valid/ndcg@10"]), default=None)
    section: list[dict[str, Any]] = []
    for name, curve in curves.items():
        model = known.get(name) or Model(name, KNOWN_LABELS.get(name, name), len(known), {})
        panels = []
        last_step = max((step for points in curve.values() for step, _ in points), default=0.0)
        if loss := curve["loss"]:
            (_, first), (_, last) = loss[0], loss[-1]
            words = f"Training loss of {model.label}, from {first:.3f} to {last:.3f} at step {loss[-1][0]:,.0f}."
            chart = charts.line_chart(
                charts.thin(loss, 120), words, "{:.3f}".format, style=model.style, last_step=last_step
            )
            panels.append({"title": "Training loss", "chart": chart})
        if valid := curve["valid/ndcg@10"]:
            best = max(valid, key=lambda point: point[1])
            words = f"Validation NDCG@10 of {model.label}, best {figure(best[1])} at step {best[0]:,.0f}."
            shown = valid if len(valid) <= 120 else sorted({*charts.thin(valid, 120), best})
            chart = charts.line_chart(
                shown, words, figure, style=model.style, from_zero=True, top=best_of_all, last_step=last_step, best=best
            )
            panels.append({"title": "Validation NDCG@10", "chart": chart})
        if speed := curve["targets_per_second"]:
            middle = sorted(value for _, value in speed)[len(speed) // 2]
            words = f"Targets per second while training {model.label}, {middle:,.0f} in the middle."
            chart = charts.line_chart(
                charts.thin(speed, 120), words, count, style=model.style, from_zero=True, last_step=last_step
            )
            panels.append({"title": "Targets per second", "chart": chart})
        if panels:
            section.append({"model": model, "panels": panels})
    return section


def breakdown_section(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Recall@10 by popularity of the target, by length of the history and for cold items, all models in each bucket."""
    section: list[dict[str, Any]] = []
    for key, title in BREAKDOWNS.items():
        buckets: dict[str, dict[str, Any]] = {}
        for model in models:
            for entry in (as_mapping(raw) for raw in as_sequence(model.data.get(key))):
                if (recall := as_interval(entry.get("recall@10"))) is None:
                    continue
                bucket = buckets.setdefault(str(entry.get("bucket", "?")), {"cases": None, "models": []})
                bucket["cases"] = bucket["cases"] if bucket["cases"] is not None else as_number(entry.get("cases"))
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
        has_ndcg = any(ndcg for bucket in buckets.values() for *_, ndcg in bucket["models"])
        section.append({"title": title, "chart": chart, "buckets": buckets, "has_ndcg": has_ndcg})
    return section


def codebook_section(results: dict[str, Any]) -> dict[str, Any] | None:
    """Per level how much of the codebook is used and how evenly, with the sorted loads; then other quality figures."""
    semantic_ids = as_mapping(results.get("semantic_ids"))
    quality = as_mapping(semantic_ids.get("quality"))
    sizes, loads = as_sequence(semantic_ids.get("level_sizes")), as_sequence(semantic_ids.get("code_load"))
    # Figures per level come as one list a figure, or as one mapping a level.
    mappings = [as_mapping(raw) for raw in as_sequence(quality.get("id_levels"))]
    columns = {
        key: as_sequence(quality.get(key)) or [mapping.get(key) for mapping in mappings]
        for key in ("utilisation", "entropy", "entropy_share")
    }
    levels = []
    for index in range(max(len(sizes), len(loads), *map(len, columns.values()))):
        level: dict[str, Any] = {key: as_number(entry_at(values, index)) for key, values in columns.items()}
        counts = [load for raw in as_sequence(entry_at(loads, index)) if (load := as_number(raw)) is not None]
        size = as_number(entry_at(sizes, index))
        if counts:
            words = (
                f"Level {index + 1}: items per code in falling order; the busiest code carries {count(max(counts))}, "
                f"{count(sum(load > 0 for load in counts))} of {count(size or len(counts))} codes carry any."
            )
            # Codes that no item uses may be left out of the counts; the strip still shows their place.
            counts += [0.0] * max(0, int(size or 0) - len(counts))
            level |= {"chart": charts.load_chart(counts, words), "most": max(counts), "even": sum(counts) / len(counts)}
        levels.append(level | {"number": index + 1, "size": size})
    figures = [(name, plain(value)) for name, value in flatten(quality) if not is_missing(value)]
    notes = [str(note) for note in as_sequence(quality.get("notes"))]
    return {"levels": levels, "figures": figures, "notes": notes} if levels or figures else None


def examples_section(results: dict[str, Any], models: Sequence[Model]) -> list[dict[str, Any]]:
    """A few users: the end of the history, the item that came next, and each model's list."""
    known = {model.name: model for model in models}
    section: list[dict[str, Any]] = []
    for example in (as_mapping(raw) for raw in as_sequence(results.get("examples"))):
        history = [title_of(entry) for entry in as_sequence(example.get("history"))]
        lists = []
        recommendations = as_mapping(example.get("recommendations"))
        for name in sorted(recommendations, key=lambda name: list(known).index(name) if name in known else len(known)):
            model = known.get(name) or Model(name, KNOWN_LABELS.get(name, name), len(known), {})
            entries = [
                {
                    "title": title_of(raw),
                    "score": as_number(as_mapping(raw).get("score")),
                    "hit": as_mapping(raw).get("hit") is True,
                }
                for raw in as_sequence(recommendations[name])
            ]
            place = next((rank for rank, entry in enumerate(entries, 1) if entry["hit"]), None)
            if entries:
                lists.append({"model": model, "entries": entries, "place": place})
        if history or lists:
            section.append(
                {
                    "user": str(example.get("user", "")),
                    "history": history[-SHOWN_HISTORY:],
                    "earlier": max(0, len(history) - SHOWN_HISTORY),
                    "target": title_of(example["target"]) if example.get("target") else "",
                    "lists": lists,
                }
            )
    return section


def _best_columns(rows: Iterable[list[Interval | None]]) -> list[float | None]:
    columns = zip(*rows, strict=True)
    return [max((interval.value for interval in column if interval), default=None) for column in columns]


def curve_of(lines: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) in step order. Should a step stand twice, the later line counts."""
    points = {
        step: value
        for line in lines
        if (step := as_number(line.get("step"))) is not None and (value := as_number(line.get(key))) is not None
    }
    return sorted(points.items())
