"""What each part of the generator is worth: the section of the report that shows a table of ablations.

The table is the file that `benchmarks.generator_ablations --run` leaves in a run's folder: `rows`, each with `group`, `label`,
`against`, `test` (figures), `difference` (by part of the data, paired, to the row named `against`), `parameters` and `seconds`.
"""

from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.values import as_interval, as_mapping, as_number, as_sequence, metric_name, readable, signed

METRIC = "ndcg@10"
PARTS = (("test", "Test", 0), ("valid", "Validation", 1))
REFERENCE = "base"


def ablation_section(study: dict[str, Any]) -> dict[str, Any] | None:
    """Charts of differences and a table, heading by heading; None where no row has a difference."""
    rows = [row for raw in as_sequence(study.get("rows")) if (row := as_mapping(raw))]
    groups: list[dict[str, Any]] = [
        {"name": name.capitalize(), "rows": [_row(row) for row in rows if str(row.get("group")) == name]}
        for name in dict.fromkeys(str(row.get("group")) for row in rows)
    ]
    panels = [_panel(group["name"], drawn) for group in groups if (drawn := [r for r in group["rows"] if r["marks"]])]
    if not panels:
        return None
    run = as_mapping(study.get("run"))
    return {
        "panels": panels,
        "groups": groups,
        "metric": metric_name(METRIC),
        "parts": [(name, style) for _, name, style in PARTS],
        "seeds": as_sequence(run.get("seed")),
        "quick": run.get("quick") is True,
        "command": run.get("command"),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    difference, label = as_mapping(row.get("difference")), str(row.get("label"))
    found = {part: as_interval(as_mapping(difference.get(part)).get(METRIC)) for part, *_ in PARTS}
    marks = tuple(Mark(name, interval, style) for part, name, style in PARTS if (interval := found[part]))
    against = str(row.get("against"))
    if marks and against != REFERENCE:
        label += f", against: {readable(against)}"
    trained = row.get("trained") is True
    return {
        "label": label,
        "marks": marks,
        "difference": found["test"],
        "figure": as_interval(as_mapping(row.get("test")).get(METRIC)),
        "parameters": as_number(as_mapping(row.get("parameters")).get("total")),
        "seconds": as_number(as_mapping(row.get("seconds")).get("training")) if trained else None,
    }


def _panel(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    drawn = [
        Row(row["label"], row["marks"], signed(row["difference"].value) if row["difference"] else "") for row in rows
    ]
    words = "; ".join(
        f"{row.label}: " + ", ".join(f"{m.name} {signed(m.interval.value)}" for m in row.marks) for row in drawn
    )
    title = f"{title}: difference in {metric_name(METRIC)}"
    return {"title": title, "chart": charts.interval_chart(drawn, f"{title}. {words}.", signed)}
