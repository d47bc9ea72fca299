"""How the models of the report stand to each other: paired differences, and the opening sentence made from them."""

from collections.abc import Sequence
from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.sections import Model
from onerec.report.values import as_interval, as_mapping, as_number, in_words, metric_name, signed, verdict

DRAWN_DIFFERENCES = ("recall@10", "ndcg@10")  # the others stand in the table below
DRAWN_PAIRS = 12  # of more, some are left to the table


def headline(results: dict[str, Any], models: Sequence[Model]) -> dict[str, Any] | None:
    """What the opening sentence says about OneRec: its recall and how it stands to each other model of the run."""
    own = next((model for model in models if model.style == 0 and model.name.startswith("onerec")), None)
    if own is None:
        return None
    standing: dict[str, list[str]] = {}
    for pair in paired_rows(results, models):
        interval = pair["intervals"].get("ndcg@10")
        if pair["left"] == own.name and interval is not None:
            standing.setdefault(verdict(interval), []).append(pair["right_label"])
    words = [f"{word} {in_words(standing[word])}" for word in ("above", "level with", "below") if word in standing]
    return {
        "label": own.label,
        "others": in_words([model.label for model in models if not model.name.startswith("onerec")]),
        "cases": as_number(as_mapping(own.data.get("test")).get("cases")),
        "recall": own.interval("test", "recall@10"),
        "ndcg": own.interval("test", "ndcg@10"),
        "standing": ", ".join(words),
    }


def paired_rows(results: dict[str, Any], models: Sequence[Model]) -> list[dict[str, Any]]:
    """Every comparison under `paired`, with readable names and the intervals that could be read."""
    labels = {model.name: model.label for model in models}
    rows = []
    for name, figures in as_mapping(results.get("paired")).items():
        left, _, right = (part.strip() for part in name.partition(" - "))
        intervals = {key: interval for key, raw in as_mapping(figures).items() if (interval := as_interval(raw))}
        if right and intervals:
            label = f"{labels.get(left, left)} − {labels.get(right, right)}"
            rows.append(
                {
                    "left": left,
                    "right": right,
                    "label": label,
                    "left_label": labels.get(left, left),
                    "right_label": labels.get(right, right),
                    "intervals": intervals,
                    "verdicts": {key: verdict(interval) for key, interval in intervals.items()},
                }
            )
    return rows


def drawn_pairs(rows: Sequence[dict[str, Any]], models: Sequence[Model]) -> list[dict[str, Any]]:
    """The comparisons that a chart has room for: all, or OneRec's models among themselves and the best of them against others."""
    if len(rows) <= DRAWN_PAIRS:
        return list(rows)
    best = next((model.name for model in models if model.name.startswith("onerec")), None)
    return [row for row in rows if row["right"].startswith("onerec") or row["left"] == best]


def paired_section(results: dict[str, Any], models: Sequence[Model]) -> dict[str, Any] | None:
    rows = paired_rows(results, models)
    drawn = drawn_pairs(rows, models)
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["intervals"]))
    panels = []
    for metric in [name for name in DRAWN_DIFFERENCES if name in metrics] or metrics:
        marks = [
            Row(
                f"{row['left_label']} is {word} {row['right_label']}" if (word := verdict(interval)) else row["label"],
                (Mark(row["label"], interval, 0 if row["left"].startswith("onerec") else 1),),
                signed(interval.value),
            )
            for row in drawn
            if (interval := row["intervals"].get(metric))
        ]
        title = f"Difference in {metric_name(metric)}"
        words = "; ".join(f"{mark.label}: {mark.note}" for mark in marks)
        panels.append({"title": title, "chart": charts.interval_chart(marks, f"{title}. {words}.", signed)})
    names = {metric: metric_name(metric) for metric in metrics}
    complete = len(drawn) == len(rows)
    return {"panels": panels, "rows": rows, "metrics": names, "signed": signed, "complete": complete} if rows else None
