"""What each part of the generator is worth: the section of the report that shows a table of ablations.

The table is the file that `benchmarks.generator_ablations --run` leaves in a run's folder: `rows`, each with `group`, `label`,
`against`, `test` (figures), `difference` (by part of the data, paired, to the row named `against`), `parameters` and `seconds`.
"""

from collections.abc import Mapping
from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.values import (
    as_interval,
    as_mapping,
    as_sequence,
    metric_name,
    readable,
    signed,
)

METRIC = "ndcg@10"
PARTS = (("test", "Test", 0), ("valid", "Validation", 1))
REFERENCE = "base"


def ablation_section(study: Mapping[str, Any]) -> dict[str, Any] | None:
    """Charts of differences and a table, heading by heading; None where no row has a difference."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in as_sequence(study.get("rows")):
        groups.setdefault(str(row["group"]).capitalize(), []).append(_ablation(row))
    panels = []
    for name, rows in groups.items():
        drawn = [Row(row["label"], row["marks"], row["note"]) for row in rows if row["marks"]]
        if drawn:
            panels.append(charts.interval_chart(f"{name}: difference in {metric_name(METRIC)}", drawn, signed))
    legend = [{"label": name, "style": style} for _, name, style in PARTS]
    shared = {"metric": metric_name(METRIC), "legend": legend, "run": study.get("run")}
    return {"panels": panels, "groups": groups, **shared} if panels else None


def _ablation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table: its marks, and its figures on test data."""
    differences = as_mapping(row.get("difference"))
    found = {part: as_interval(as_mapping(differences.get(part)).get(METRIC)) for part, *_ in PARTS}
    marks = tuple(Mark(name, interval, style) for part, name, style in PARTS if (interval := found[part]))
    against = str(row.get("against"))
    return {
        "label": f"{row['label']}, against: {readable(against)}" if marks and against != REFERENCE else row["label"],
        "marks": marks,
        "note": signed(found["test"].value) if found["test"] else "",
        "difference": found["test"],
        "figure": as_interval(as_mapping(row.get("test")).get(METRIC)),
        "parameters": as_mapping(row.get("parameters")).get("total"),
        "seconds": as_mapping(row.get("seconds")).get("training") if row.get("trained") else None,
    }
