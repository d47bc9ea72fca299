"""The ablation table from the cells that are finished: figures, differences with intervals, seconds of one core."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation_cells import Row, cell_folder
from benchmarks.cells import BOOTSTRAP_SEED, SAMPLES, read_cells

METRICS = ("recall@10", "ndcg@10")
PARTS = ("valid", "test")
ARRAYS = tuple(f"{part}_{what}" for part in PARTS for what in ("ranks", "users"))
HEADER = (
    "",
    "Recall@10",
    "NDCG@10",
    "difference in Recall@10",
    "difference in NDCG@10",
    "by seed",
    "difference in valid NDCG@10",
    "cold items found",
    "parameters",
    "training",
    "lists",
)
Cells = dict[int, tuple[Any, ...]]


def table(rows: list[Row], seeds: list[int], cells: Path) -> list[dict[str, Any]]:
    """One entry per row with at least one finished cell.

    A user's figure is the mean over the seeds; intervals are over users, and those of a difference are paired, on the users and
    seeds that both rows have.
    """
    loaded = {row.name: read_cells({seed: cell_folder(cells, row, seed) for seed in seeds}, *ARRAYS) for row in rows}
    return [_entry(row, loaded[row.name], loaded.get(row.against, {})) for row in rows if loaded[row.name]]


def _entry(row: Row, found: Cells, reference: Cells) -> dict[str, Any]:
    first = [cell for cell, *_ in found.values()]
    cold = [cell["figures"]["test"] for cell in first]
    entry: dict[str, Any] = {
        "dataset": row.dataset,
        "name": row.name,
        "group": row.group,
        "label": row.label,
        "settings": list(row.settings),
        "against": row.against,
        "seeds": list(found),
        "users": {part: first[0]["figures"][part]["cases"] for part in PARTS},
        "cold": {
            "cases": sum(one["cold_cases"] for one in cold),
            "found": sum(one["cold_hits@10"] for one in cold),
        },
        "parameters": first[0]["parameters"],
        "seconds": {what: float(np.mean([cell["seconds"][what] for cell in first])) for what in ("training", "lists")},
        "trained": not row.model,
        "commits": sorted({cell["commit"] for cell in first}),
        "dirty": any(cell["dirty"] for cell in first),
        **{part: _figures(found, part) for part in PARTS},
    }
    shared = [seed for seed in found if seed in reference]
    if shared and row.against != row.name:
        entry["difference"] = {part: _differences(found, reference, shared, part) for part in PARTS}
        entry["by_seed"] = {
            str(seed): {metric: one["value"] for metric, one in _differences(found, reference, [seed], "test").items()}
            for seed in shared
        }
    return entry


def _figures(found: Cells, part: str) -> dict[str, Any]:
    users_C = _ranks_and_users(found, next(iter(found)), part)[1]
    return _intervals(
        {metric: _mean_over_seeds(found, list(found), part, metric, users_C) for metric in METRICS}, users_C
    )


def _differences(found: Cells, reference: Cells, seeds: list[int], part: str) -> dict[str, Any]:
    users_C = np.intersect1d(_ranks_and_users(found, seeds[0], part)[1], _ranks_and_users(reference, seeds[0], part)[1])
    values = {}
    for metric in METRICS:
        ours, theirs = (_mean_over_seeds(cells, seeds, part, metric, users_C) for cells in (found, reference))
        values[metric] = ours - theirs
    return _intervals(values, users_C)


def _mean_over_seeds(cells: Cells, seeds: list[int], part: str, metric: str, users_C: np.ndarray) -> np.ndarray:
    """Each of these users' figure, mean over the seeds. One case a user: that is how the datasets here are asked."""
    from onerec.evaluate.metrics import ndcg, recall

    measure = {"recall": recall, "ndcg": ndcg}[metric.partition("@")[0]]
    total_C = np.zeros(len(users_C))
    for seed in seeds:
        ranks_C, all_users_C = _ranks_and_users(cells, seed, part)
        order = np.argsort(all_users_C)
        places = order[np.searchsorted(all_users_C[order], users_C)]
        total_C += measure(ranks_C[places], 10)
    return total_C / len(seeds)


def _ranks_and_users(cells: Cells, seed: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = dict(zip(ARRAYS, cells[seed][1:], strict=True))
    return arrays[f"{part}_ranks"], arrays[f"{part}_users"]


def _intervals(values: dict[str, np.ndarray], users_C: np.ndarray) -> dict[str, Any]:
    from onerec.evaluate.bootstrap import intervals

    return dict(intervals(values, users_C, SAMPLES, BOOTSTRAP_SEED))


def markdown(results: dict[str, Any]) -> str:
    """One table per heading, for terminal and docs."""
    from benchmarks.result_tables import origin

    made, parts = results["rows"], []
    for group in dict.fromkeys(row["group"] for row in made):
        lines = ["| " + " | ".join((group, *HEADER[1:])) + " |", "|" + "---|" * len(HEADER)]
        lines += [_line(row) for row in made if row["group"] == group]
        parts.append("\n".join(lines))
    users = made[0]["users"]
    said = f"{users['test']:,} test and {users['valid']:,} validation users, fewer where a row says so; seconds are of one core; "
    said += origin(results["run"])
    return "\n\n".join([*parts, said])


def _line(row: dict[str, Any]) -> str:
    from benchmarks.result_tables import share, signed

    difference, by_seed = row.get("difference"), row.get("by_seed", {})
    against = "" if row["against"] in ("base", row["name"]) else f", against: {row['against'].replace('_', ' ')}"
    cells = [
        row["label"] + against,
        share(row["test"]["recall@10"]["value"]),
        share(row["test"]["ndcg@10"]["value"]),
        signed(difference["test"]["recall@10"]) if difference else "",
        signed(difference["test"]["ndcg@10"]) if difference else "",
        ", ".join(f"{one['ndcg@10']:+.4f}".replace("0.", ".").replace("-", "−") for one in by_seed.values()),
        signed(difference["valid"]["ndcg@10"]) if difference else "",
        f"{row['cold']['found']:.0f} of {row['cold']['cases']}",
        f"{row['parameters']['total']:,}",
        f"{row['seconds']['training']:.0f} s" if row["trained"] else "",
        f"{row['seconds']['lists']:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"
