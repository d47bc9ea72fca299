"""How evenly each level of semantic IDs is used."""

from collections.abc import Mapping
from typing import Any

from onerec.report import charts
from onerec.report.values import as_mapping, as_sequence, count, percent


def level_panels(semantic_ids: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per level a chart of its items per code, and figures for below it.

    semantic_ids: as `results.json` holds them: `level_sizes`, `code_load` (items per code of each level, zeros included) and
    `quality`. Without the first two there are no panels.
    """
    quality = as_mapping(semantic_ids.get("quality"))
    of_levels, of_quantizer = as_sequence(quality.get("id_levels")), as_sequence(quality.get("levels"))
    sizes, loads = as_sequence(semantic_ids.get("level_sizes")), as_sequence(semantic_ids.get("code_load"))
    panels = []
    for level, (size, load) in enumerate(zip(sizes, loads, strict=False)):
        figures = of_levels[level] if level < len(of_levels) else {}
        lost = of_quantizer[level].get("variance_lost") if level < len(of_quantizer) else None
        used = sum(items > 0 for items in load)
        words = (
            f"Level {level + 1}: items per code in falling order; the fullest carries {count(max(load))}, "
            f"{count(used)} of {count(size)} codes carry any."
        )
        rows = [
            ("Codes in use", percent(used / size)),
            ("Evenness (entropy)", percent(figures["entropy_share"]) if "entropy_share" in figures else "–"),
            ("Gini of the load", f"{figures['gini']:.2f}" if "gini" in figures else "–"),
            ("Fullest code", f"{count(max(load))} {'item' if max(load) == 1 else 'items'}"),
            ("Even share", f"{sum(load) / size:.1f} items"),
            *([("Variance still lost", percent(lost))] if lost is not None else []),
        ]
        panels.append({"number": level + 1, "size": size, "chart": charts.load_chart(load, words), "rows": rows})
    return panels
