"""What came after training: the section of the report on reward models, alignment, and selection by reward.

Figures are those of `results.json` (`reward_models`, `judge`, and `reward_selection` of a model); curves are the
`aligned_<objective>/metrics.jsonl` of the run's folder.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onerec.report import charts
from onerec.report.comparison import figure_chart
from onerec.report.models import Model
from onerec.report.sections import DRAWN_POINTS, curve_of
from onerec.report.values import as_interval, as_mapping, as_number, as_sequence, count, plain, readable
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
    results: Mapping[str, Any], models: Sequence[Model], logs: Mapping[str, Sequence[dict[str, Any]]]
) -> dict[str, Any] | None:
    """Curves of each alignment, the judge's view of all models, what reward selection weighs, and tables of reward models.

    Args:
        results: content of `results.json`.
        models: those of the run.
        logs: lines of the alignments' logs by objective.
    """
    alignments = {objective: _panels(objective, lines) for objective, lines in logs.items()}
    scores = [(model, score.value) for model in models if (score := model.interval(P_SCORE))]
    judged = [model for model, _ in sorted(scores, key=lambda pair: -pair[1])]
    section = {
        "alignments": {objective: panels for objective, panels in alignments.items() if panels},
        "judged": figure_chart(judged, "test", P_SCORE),
        "selections": [found for model in models if (found := _selection(model))],
        "tables": _tables(as_mapping(results.get("reward_models"))),
    }
    return {**section, "judge": results.get("judge")} if any(section.values()) else None


def _panels(objective: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    curves = {key: curve for key in CURVES if (curve := curve_of(lines, key))}
    last_step = max((curve[-1][0] for curve in curves.values()), default=0.0)
    panels = []
    for key, curve in curves.items():
        words = f"{CURVES[key]}, {objective}: from {plain(curve[0][1])} to {plain(curve[-1][1])}."
        shown = charts.thin(curve, DRAWN_POINTS)
        drawn = charts.line_chart(shown, words, plain, from_zero=key in FROM_ZERO, last_step=last_step)
        panels.append({"title": CURVES[key], "chart": drawn})
    return panels


def _selection(model: Model) -> dict[str, Any] | None:
    found = as_mapping(model.data.get("reward_selection"))
    weight = as_number(found.get("weight"))
    if weight is None:
        return None
    width, cases = as_number(found.get("beam_width")), as_number(found.get("cases"))
    return {"label": model.label, "weight": f"{weight:.2f}", "width": width, "cases": cases}


def _tables(reward_models: Mapping[str, Any]) -> list[dict[str, Any]]:
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
                title = f"{readable(name).capitalize()}, learnt from {learnt}: {words}"
                impressions = as_number(measured.get("impressions"))
                title += "" if impressions is None else f", {count(impressions)} impressions"
                tables.append({"title": title, "rows": rows})
    return tables


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    auc, calibration = as_mapping(row.get("auc")), as_mapping(row.get("calibration"))
    return {
        "positives": as_number(row.get("positives")),
        "auc": as_interval(auc.get("tower")),
        "gauc": as_interval(as_mapping(row.get("gauc")).get("tower")),
        "fusion": as_interval(auc.get("fusion")),
        "sum": as_interval(auc.get("sum")),
        "ratio": as_number(calibration.get("ratio")),
    }
