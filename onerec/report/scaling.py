"""Loss over size: the section of the report that shows a study of scaling.

The study is the file that `benchmarks.scaling` writes. `rows`, one a size, have `width`, `losses` (one a seed) and `parameters`,
of which `without_tables` counts. `fits` has, for `parameters`, the law loss = E + A / N^alpha as `irreducible`, `coefficient` and
`alpha`.
"""

import math
from typing import Any

from onerec.report import charts
from onerec.report.charts import Interval
from onerec.report.values import as_interval, as_mapping, as_number, as_sequence, count, with_interval

CURVE_POINTS = 60
CONSTANTS = {"irreducible": "E, what no size removes", "coefficient": "A", "alpha": "alpha"}


def scaling_section(study: dict[str, Any]) -> dict[str, Any] | None:
    """The chart with the fit and its constants; None without two sizes that were measured."""
    points = [point for raw in as_sequence(study.get("rows")) for point in _points(as_mapping(raw))]
    sizes = sorted({size for size, *_ in points})
    if len(sizes) < 2:
        return None
    fit = as_mapping(as_mapping(study.get("fits")).get("parameters"))
    constants = {name: found for name in CONSTANTS if (found := as_interval(fit.get(name))) is not None}
    fitted = _curve(constants, sizes[0], sizes[-1]) if len(constants) == len(CONSTANTS) else []
    return {
        "chart": charts.scaling_chart("Loss over parameters", points, fitted, "{:.3f}".format),
        "sizes": len(sizes),
        "law": "loss = E + A / N^alpha" if fitted else "",
        "constants": [(CONSTANTS[name], with_interval(found, "{:.4g}".format)) for name, found in constants.items()],
        "command": as_mapping(study.get("run")).get("command"),
    }


def _points(row: dict[str, Any]) -> list[tuple[float, float, str]]:
    """(parameters, loss, words) of each seed of a size; losses that no logarithm has are left out."""
    size = as_number(as_mapping(row.get("parameters")).get("without_tables"))
    losses = [loss for raw in as_sequence(row.get("losses")) if (loss := as_number(raw)) is not None]
    if size is None or size <= 0:
        return []
    return [(size, loss, f"width {row.get('width')}, {count(size)} parameters") for loss in losses if loss > 0]


def _curve(constants: dict[str, Interval], low: float, high: float) -> list[tuple[float, float]]:
    """Points of the law from the least to the largest size, evenly spaced by logarithms; those above zero."""
    least, coefficient, alpha = (constants[name].value for name in CONSTANTS)
    steps = [math.exp(math.log(low) + step / CURVE_POINTS * math.log(high / low)) for step in range(CURVE_POINTS + 1)]
    law = [(size, least + coefficient * size**-alpha) for size in steps]
    return [(size, loss) for size, loss in law if 0 < loss < math.inf]
