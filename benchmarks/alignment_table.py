"""The alignment tables from the cells that are finished: figures, differences with intervals, curves, seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment_cells import LARGEST, cell_folder
from benchmarks.alignment_rows import Row
from benchmarks.cells import BOOTSTRAP_SEED, SAMPLES, finished

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


class Cell:
    """A finished cell: its facts, and per-case arrays that are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        import json

        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "cell.json").read_text(encoding="utf-8"))

    def has(self, name: str) -> bool:
        """Whether the cell measured this."""
        return (self.folder / f"{name}.npy").exists()

    def array(self, name: str) -> np.ndarray:
        """A figure of each case `[C]`, or of each case and K."""
        found: np.ndarray = np.load(self.folder / f"{name}.npy")
        return found

    def names(self, prefix: str) -> list[str]:
        """The figures whose array's name begins with `prefix`."""
        return sorted(path.stem.removeprefix(prefix) for path in self.folder.glob(f"{prefix}*.npy"))


Cells = dict[int, Cell]


def table(rows: list[Row], dataset: str, cells: Path) -> list[dict[str, Any]]:
    """An entry for each row with a finished cell.

    Intervals hold users and seeds (`interval_over_seeds`); those of differences are paired, on the users and seeds of both rows.
    """
    loaded: dict[str, Cells] = {}
    for row in rows:
        folders = {seed: cell_folder(cells, dataset, row, seed) for seed in row.seeds}
        loaded[row.name] = {seed: Cell(folder) for seed, folder in folders.items() if finished(folder)}
    return [_entry(row, loaded) for row in rows if loaded[row.name]]


def with_kept(made: list[dict[str, Any]], kept: list[dict[str, Any]], rows: list[Row]) -> list[dict[str, Any]]:
    """Entries of `table` beside those of an earlier file, in the order of `rows`: of a row that both have, the one of more seeds,
    the new one of equally many."""
    entries = {entry["name"]: entry for entry in made}
    for entry in kept:
        name = entry.get("name")
        if name is not None and (name not in entries or len(entries[name]["seeds"]) < len(entry["seeds"])):
            entries[name] = entry
    return [entries[row.name] for row in rows if row.name in entries]


def _entry(row: Row, loaded: dict[str, Cells]) -> dict[str, Any]:
    found = loaded[row.name]
    facts = [cell.facts for cell in found.values()]
    entry: dict[str, Any] = {
        "name": row.name,
        "group": row.group,
        "label": row.label,
        "settings": list(row.settings),
        "start": row.start,
        "against": row.against,
        "seeds": list(found),
        "commits": sorted({one["commit"] for one in facts}),
        "dirty": any(one["dirty"] for one in facts),
        "seconds": {key: float(np.mean([one["seconds"][key] for one in facts])) for key in facts[0]["seconds"]},
    }
    if row.measured == "legality":
        return entry | _legality(row, found, loaded) | _curves(facts)
    for search in SEARCHES:
        if not next(iter(found.values())).has(f"test_{search}_recall@10"):
            continue
        entry[search] = {part: _figures(found, f"{part}_{search}_", f"{part}_users") for part in ("valid", "test")}
        entry[search]["coverage@10"] = float(
            np.mean([one["figures"]["coverage@10"][f"test_{search}"] for one in facts])
        )
        if (row.name, search) != (row.start, "beam"):
            entry[search] |= _compared(row, search, found, loaded)
    if row.measured == "all":
        entry["pass_at_k"] = _pass_at_k(found, loaded[row.start])
    return entry | _curves(facts)


def _figures(found: Cells, prefix: str, users: str) -> dict[str, Any]:
    """Means and intervals of everything with this prefix; nothing where it was not measured."""
    cells = list(found.values())
    if not cells[0].has(users):
        return {}
    return _intervals(
        {name: [cell.array(prefix + name) for cell in cells] for name in cells[0].names(prefix)}, cells[0].array(users)
    )


def _compared(row: Row, search: str, found: Cells, loaded: dict[str, Cells]) -> dict[str, Any]:
    """Differences to the beam of the generator before alignment, and to another row; the judge's also as shares."""
    made: dict[str, Any] = {"difference": _differences(found, search, loaded[row.start], "beam", "test")}
    made["valid_difference"] = _differences(found, search, loaded[row.start], "beam", "valid")
    made["by_seed"] = {
        str(seed): {
            name: figure["value"]
            for name, figure in _differences({seed: cell}, search, loaded[row.start], "beam", "test").items()
        }
        for seed, cell in found.items()
        if seed in loaded[row.start]
    }
    if row.against != row.start:
        made["against"] = _differences(found, search, loaded[row.against], search, "test")
    return made


def _differences(ours: Cells, search: str, theirs: Cells, their_search: str, part: str) -> dict[str, Any]:
    """First minus second on the users that both were asked about; `judge_gain` is the judge's divided by the second's mean."""
    seeds = [seed for seed in ours if seed in theirs]
    prefix, their_prefix = f"{part}_{search}_", f"{part}_{their_search}_"
    if not seeds or not ours[seeds[0]].has(f"{prefix}recall@10"):
        return {}
    first, second = (cells[seeds[0]].array(f"{part}_users") for cells in (ours, theirs))
    users_C, rows, other_rows = np.intersect1d(first, second, return_indices=True)
    names = [name for name in ours[seeds[0]].names(prefix) if theirs[seeds[0]].has(their_prefix + name)]
    values, means = {}, {}
    for name in names:
        others = [theirs[seed].array(their_prefix + name)[other_rows] for seed in seeds]
        values[name] = [
            ours[seed].array(prefix + name)[rows] - other for seed, other in zip(seeds, others, strict=True)
        ]
        means[name] = float(np.mean(others))
    made = _intervals(values, users_C)
    if JUDGE in made:
        made["judge_gain"] = {key: value / means[JUDGE] for key, value in made[JUDGE].items()}
    return made


def _pass_at_k(found: Cells, start: Cells) -> dict[str, Any]:
    """Of the K most probable items, the judge's best and the share of users who took one; differences to the start's."""
    made: dict[str, Any] = {}
    for name in ("judge", "hit"):
        curves = {seed: cell.array(f"pass_{name}") for seed, cell in found.items()}
        users_C = next(iter(found.values())).array("pass_users")
        ks = [1 << place for place in range(next(iter(curves.values())).shape[1])]
        made[name] = _intervals(
            {str(k): [curve[:, place] for curve in curves.values()] for place, k in enumerate(ks)}, users_C
        )
        shared = [seed for seed in found if seed in start and start is not found]
        if shared:
            gained = {seed: curves[seed] - start[seed].array(f"pass_{name}") for seed in shared}
            made[f"{name}_difference"] = _intervals(
                {str(k): [one[:, place] for one in gained.values()] for place, k in enumerate(ks)}, users_C
            )
    return made


def _legality(row: Row, found: Cells, loaded: dict[str, Cells]) -> dict[str, Any]:
    users_C, start = np.arange(len(next(iter(found.values())).array("test_free_legality"))), loaded[row.start]
    values = {seed: cell.array("test_free_legality") for seed, cell in found.items()}
    made: dict[str, Any] = {"legality": _interval(list(values.values()), users_C)}
    if row.name != row.start:
        shared = [seed for seed in found if seed in start]
        made["difference"] = _interval(
            [values[seed] - start[seed].array("test_free_legality") for seed in shared], users_C
        )
    return made


def _curves(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Curves, means over the seeds, and over all steps the largest of what should be bounded."""
    found = [one["curves"] for one in facts if "curves" in one]
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
            "mean": float(np.mean([np.mean(_known(one[name])) for one in found])),
            "largest": float(max(max(_known(one[f"{name}_largest"])) for one in found)),
        }
        for name in LARGEST
        if f"{name}_largest" in found[0]
    }
    curves = {name: curve for name, curve in averaged.items() if name in SHOWN_CURVES}
    shares = _known(averaged.get("rollout_share", []))
    return {"curves": curves, "bounds": bounds, "rollout_share": sum(shares) / len(shares) if shares else None}


def _known(curve: list[float | None]) -> list[float]:
    return [value for value in curve if value is not None]


def _interval(values: list[np.ndarray], users_C: np.ndarray) -> dict[str, float]:
    found: dict[str, float] = _intervals({"figure": values}, users_C)["figure"]
    return found


def _intervals(values: dict[str, list[np.ndarray]], users_C: np.ndarray) -> dict[str, Any]:
    """Of figures with a row of cases for each seed."""
    from onerec.evaluate.bootstrap import intervals_over_seeds

    stacked = {name: np.stack(rows).astype(np.float64) for name, rows in values.items()}
    return dict(intervals_over_seeds(stacked, users_C, SAMPLES, BOOTSTRAP_SEED))
