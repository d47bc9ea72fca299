"""What came after training: the section of the report on reward models, alignment, and selection by reward.

Figures are those of `results.json` (`reward_models`, `judge`, and `reward_selection` of a model); curves are the
`aligned_<objective>/metrics.jsonl` of the run's folder.
"""

from collections.abc import Sequence
from typing import Any

from onerec.report import charts
from onerec.report.charts import Mark, Row
from onerec.report.sections import Model, curve_of
from onerec.report.values import as_interval, as_mapping, as_number, as_sequence, figure, plain
from onerec.run.models import P_SCORE

CURVES = {
    "reward": "Reward, mean",
    "reward_spread": "Reward, spread within a group",
    "kl_to_start": "KL to the start, nats an item",
    "entropy": "Entropy of the choices, nats",
    "legality": "Legal generations, share",
    "items_in_batch": "Different items, share of a batch",
    "ratio_max": "Ratio to the old policy, largest",
    "gradient_norm": "Gradient norm",
    "next_code_loss": "Next-code loss",
}
FROM_ZERO = ("kl_to_start", "legality", "items_in_batch", "gradient_norm")
GROUPS = {"all": "all test users", "others": "users that it learnt nothing from"}


def rewards_section(
    results: dict[str, Any], models: Sequence[Model], logs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any] | None:
    """Curves of each alignment, the judge's view of all models, what reward selection weighs, and tables of reward models.

    Args:
        results: content of `results.json`.
        models: those of the run.
        logs: lines of the alignments' logs by objective.
    """
    section = {
        "alignments": [
            {"objective": objective, "panels": panels}
            for objective, lines in logs.items()
            if (panels := _panels(objective, lines))
        ],
        "judged": _judged(models),
        "judge": results.get("judge"),
        "selections": [found for model in models if (found := _selection(model))],
        "tables": _tables(as_mapping(results.get("reward_models"))),
    }
    filled = (section["alignments"], section["judged"], section["selections"], section["tables"])
    return section if any(filled) else None


def _panels(objective: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    curves = {key: curve for key in CURVES if (curve := curve_of(lines, key))}
    last_step = max((curve[-1][0] for curve in curves.values()), default=0.0)
    panels = []
    for key, curve in curves.items():
        (_, first), (_, last) = curve[0], curve[-1]
        words = f"{CURVES[key]}, {objective}: from {plain(first)} to {plain(last)} at step {curve[-1][0]:,.0f}."
        drawn = charts.line_chart(
            charts.thin(curve, 120), words, plain, from_zero=key in FROM_ZERO, last_step=last_step
        )
        panels.append({"title": CURVES[key], "chart": drawn})
    return panels


def _judged(models: Sequence[Model]) -> Any:
    """A chart of the judge's mean P-Scores, best first; None where nobody judged."""
    found = [(model, interval) for model in models if (interval := model.interval("test", P_SCORE))]
    if not found:
        return None
    found.sort(key=lambda pair: -pair[1].value)
    rows = [Row(model.label, (Mark(model.label, each, model.style),), figure(each.value)) for model, each in found]
    words = "; ".join(f"{model.label} {figure(each.value)}" for model, each in found)
    return charts.interval_chart(rows, f"Mean P-Score of the first ten items. {words}.", figure)


def _selection(model: Model) -> dict[str, Any] | None:
    found = as_mapping(model.data.get("reward_selection"))
    weight = as_number(found.get("weight"))
    if weight is None:
        return None
    width, cases = as_number(found.get("beam_width")), as_number(found.get("cases"))
    return {"label": model.label, "weight": f"{weight:.2f}", "width": width, "cases": cases}


def _tables(reward_models: dict[str, Any]) -> list[dict[str, Any]]:
    tables = []
    for name, figures in ((name, as_mapping(raw)) for name, raw in reward_models.items()):
        half = figures.get("half")
        for group, words in GROUPS.items():
            measured = as_mapping(figures.get(group))
            rows = [
                {"name": str(objective), **_row(row)}
                for objective in as_sequence(figures.get("objectives"))
                if (row := as_mapping(measured.get(str(objective))))
            ]
            if rows:
                learnt = f"the {half} half of the users" if half else "all users"
                tables.append(
                    {
                        "title": f"{name.replace('_', ' ').capitalize()}, learnt from {learnt}: {words}",
                        "impressions": as_number(measured.get("impressions")),
                        "rows": rows,
                    }
                )
    return tables


def _row(row: dict[str, Any]) -> dict[str, Any]:
    auc, calibration = as_mapping(row.get("auc")), as_mapping(row.get("calibration"))
    return {
        "positives": as_number(row.get("positives")),
        "auc": as_interval(auc.get("tower")),
        "gauc": as_interval(as_mapping(row.get("gauc")).get("tower")),
        "fusion": as_interval(auc.get("fusion")),
        "sum": as_interval(auc.get("sum")),
        "ratio": as_number(calibration.get("ratio")),
    }
