"""Entries of the alignment tables, from finished cells: figures, differences with intervals, curves, seconds."""

from typing import Any

import numpy as np

from benchmarks.alignment.cell import LARGEST
from benchmarks.alignment.rows import AlignmentRow
from benchmarks.study.cells import Row
from benchmarks.study.samples import Cells, Intervals, entry_of, sample_of, shared

JUDGE = "judge"
SEARCHES = ("beam", "selection")
# What tables and charts show of the curves that cells keep.
SHOWN_CURVES = (
    "step",
    "reward",
    "legality",
    "entropy",
    "kl_to_start",
    "items_in_batch",
    "ratio_max_largest",
    "negative_coefficient_largest",
    "negative_gradient_norm_largest",
)
Finished = dict[str, Cells]  # by row


def entries(finished: dict[Row, Cells]) -> list[dict[str, Any]]:
    """An entry for each row with a finished cell.

    Intervals are over users and seeds; those of differences are paired, on the users and seeds that both rows have.
    """
    by_name = {row.name: cells for row, cells in finished.items()}
    return [entry(row, by_name) for row, cells in finished.items() if cells and isinstance(row, AlignmentRow)]


def with_kept(made: list[dict[str, Any]], kept: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """New entries beside those of an earlier file, in the order of `names`.

    Of a row that both have, the entry with more seeds stays; the new one where they are equally many.
    """
    entries = {entry["name"]: entry for entry in made}
    for entry in kept:
        name = entry.get("name")
        if name is not None and (name not in entries or len(entries[name]["seeds"]) < len(entry["seeds"])):
            entries[name] = entry
    return [entries[name] for name in names if name in entries]


def entry(row: AlignmentRow, finished: Finished) -> dict[str, Any]:
    """One row's figures, and its differences to other rows."""
    cells, start = finished[row.name], finished.get(row.start, {})
    made: dict[str, Any] = {
        "name": row.name,
        "group": row.group,
        "label": row.label,
        "settings": list(row.settings),
        "start": row.start,
        "against": row.against,
        **entry_of(cells),
    }
    if row.measured == "legality":
        return made | legality(row, cells, start) | curves(cells)
    for search in SEARCHES:
        if not next(iter(cells.values())).has(f"test_{search}"):
            continue
        made[search] = {part: sample_of(cells, f"{part}_{search}").intervals() for part in ("valid", "test")}
        shares = [cell.facts["coverage@10"][f"test_{search}"] for cell in cells.values()]
        made[search]["coverage@10"] = float(np.mean(shares))
        if (row.name, search) != (row.start, "beam"):
            made[search] |= compared(row, search, finished)
    if row.measured == "all":
        made["pass_at_k"] = pass_at_k(cells, start)
    return made | curves(cells)


def compared(row: AlignmentRow, search: str, finished: Finished) -> dict[str, Any]:
    """Differences to the beam of the generator before alignment, and to another row."""
    mine, start = finished[row.name], finished.get(row.start, {})
    valid, test = (difference(mine, search, start, "beam", part) for part in ("valid", "test"))
    made: dict[str, Any] = {"difference": test[0], "valid_difference": valid[0], "by_seed": test[1]}
    if row.against != row.start:
        made["against"] = difference(mine, search, finished.get(row.against, {}), search, "test")[0]
    return made


def difference(
    ours: Cells, search: str, theirs: Cells, their_search: str, part: str
) -> tuple[Intervals, dict[str, dict[str, float]]]:
    """First minus second, with intervals and by seed; `judge_gain` is the judge's difference divided by the second's mean."""
    first, second = shared(sample_of(ours, f"{part}_{search}"), sample_of(theirs, f"{part}_{their_search}"))
    if not first.seeds or not first.values:
        return {}, {}
    found = first.minus(second)
    made, by_seed = found.intervals(), found.by_seed()
    if JUDGE in made:
        made["judge_gain"] = {end: value / second.values[JUDGE].mean() for end, value in made[JUDGE].items()}
        for place, seed in enumerate(found.seeds):
            by_seed[str(seed)]["judge_gain"] = by_seed[str(seed)][JUDGE] / float(second.values[JUDGE][place].mean())
    return made, by_seed


def pass_at_k(cells: Cells, start: Cells) -> dict[str, Any]:
    """Of the K most probable items, the judge's best and the share of users who took one; differences to the start's."""
    made: dict[str, Any] = {}
    for kind in ("judge", "hit"):
        found = sample_of(cells, f"pass_{kind}")
        made[kind] = found.intervals()
        if start is not cells and start.keys() & cells.keys():
            made[f"{kind}_difference"] = found.minus(sample_of(start, f"pass_{kind}")).intervals()
    return made


def legality(row: AlignmentRow, cells: Cells, start: Cells) -> dict[str, Any]:
    """The share of free samples that are items, and its difference to the start's."""
    found = sample_of(cells, "legality")
    made = {"legality": found.intervals()["legality"]}
    if row.needs and start.keys() & cells.keys():
        made["difference"] = found.minus(sample_of(start, "legality")).intervals()["legality"]
    return made


def curves(cells: Cells) -> dict[str, Any]:
    """Curves as means over the seeds, the largest values of what should be bounded, and the share of time spent generating."""
    found = [cell.facts["curves"] for cell in cells.values() if "curves" in cell.facts]
    if not found:
        return {}
    averaged = {
        name: [
            None if None in values else float(np.mean(values))
            for values in zip(*(one[name] for one in found), strict=True)
        ]
        for name in found[0]
    }
    bounds = {
        name: {
            "mean": float(np.mean([np.mean(present(one[name])) for one in found])),
            "largest": float(max(max(present(one[f"{name}_largest"])) for one in found)),
        }
        for name in LARGEST
        if f"{name}_largest" in found[0]
    }
    shares = present(averaged.get("rollout_share", []))
    return {
        "curves": {name: curve for name, curve in averaged.items() if name in SHOWN_CURVES},
        "bounds": bounds,
        "rollout_share": sum(shares) / len(shares) if shares else None,
    }


def present(curve: list[float | None]) -> list[float]:
    """The values of a curve that are there."""
    return [value for value in curve if value is not None]
