"""The sections that show studies which benchmarks leave in a run's folder with `--run`: ablations, and loss over size.

`ablations.json` comes from `benchmarks.generator_ablations`: `rows`, each with `group`, `label`, `against`, `test` (figures),
`difference` (by part of the data, paired, to the row named `against`), `parameters` and `seconds`. `scaling.json` comes from
`benchmarks.scaling`: `rows`, one a size, with `width`, `losses` (one a seed) and `parameters`, of which `without_tables` counts;
`fits` has, for `parameters`, the law loss = E + A / N^alpha as `irreducible`, `coefficient` and `alpha`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.values import (
    as_interval,
    as_mapping,
    as_number,
    as_sequence,
    count,
    metric_name,
    readable,
    signed,
    with_interval,
)

METRIC = "ndcg@10"
PARTS = (("test", "Test", 0), ("valid", "Validation", 1))
REFERENCE = "base"
CURVE_POINTS = 61
CONSTANTS = {"irreducible": "E, what no size removes", "coefficient": "A", "alpha": "alpha"}


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


def scaling_section(study: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chart with the fit and its constants; None without two sizes that were measured."""
    points = [
        (size, loss, f"width {row.get('width')}, {count(size)} parameters")
        for row in as_sequence(study.get("rows"))
        if (size := as_number(as_mapping(row.get("parameters")).get("without_tables")) or 0) > 0
        for raw in as_sequence(row.get("losses"))
        if (loss := as_number(raw) or 0) > 0  # other losses have no logarithm
    ]
    sizes = {size for size, *_ in points}
    if len(sizes) < 2:
        return None
    fit = as_mapping(as_mapping(study.get("fits")).get("parameters"))
    constants = {name: found for name in CONSTANTS if (found := as_interval(fit.get(name))) is not None}
    fitted = []
    if len(constants) == len(CONSTANTS):
        least, coefficient, alpha = (constants[name].value for name in CONSTANTS)
        evenly_N = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
        law = zip(evenly_N.tolist(), (least + coefficient * evenly_N**-alpha).tolist(), strict=True)
        fitted = [(size, loss) for size, loss in law if 0 < loss < np.inf]
    return {
        "chart": charts.scaling_chart("Loss over parameters", points, fitted, "{:.3f}".format),
        "sizes": len(sizes),
        "law": "loss = E + A / N^alpha" if fitted else "",
        "constants": [(CONSTANTS[name], with_interval(found, "{:.4g}".format)) for name, found in constants.items()],
        "command": as_mapping(study.get("run")).get("command"),
    }
