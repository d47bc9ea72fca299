"""Figures of a row's cells and their differences to those of another row, paired by user and by seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.study.cells import Cell

SAMPLES, BOOTSTRAP_SEED = 1000, 17  # of the bootstraps of all studies
Cells = dict[int, Cell]  # of one row, by seed
Intervals = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Sample:
    """Figures of the same cases with several seeds.

    Attributes:
        seeds: of the rows of `values`.
        users_C: whose case each is.
        values: by name a figure of each case `[S, C]`.
    """

    seeds: list[int]
    users_C: np.ndarray
    values: dict[str, np.ndarray]

    def intervals(self, *, over_seeds: bool = True) -> Intervals:
        """Means with 95 % bootstrap intervals over users and seeds, or over users alone around the mean of the seeds."""
        from onerec.evaluate.bootstrap import intervals, intervals_over_seeds

        if over_seeds:
            return intervals_over_seeds(self.values, self.users_C, SAMPLES, BOOTSTRAP_SEED)
        means = {name: values_SC.mean(axis=0) for name, values_SC in self.values.items()}
        return intervals(means, self.users_C, SAMPLES, BOOTSTRAP_SEED)

    def by_seed(self) -> dict[str, dict[str, float]]:
        """The mean of each figure with each seed."""
        return {
            str(seed): {name: float(values_SC[place].mean()) for name, values_SC in self.values.items()}
            for place, seed in enumerate(self.seeds)
        }

    def minus(self, other: "Sample") -> "Sample":
        """Differences of the figures that both have, on the users and seeds of both."""
        mine, theirs = shared(self, other)
        return Sample(mine.seeds, mine.users_C, {name: mine.values[name] - theirs.values[name] for name in mine.values})


def sample_of(cells: Cells, name: str) -> Sample:
    """A sample of all cells of a row.

    Raises:
        ValueError: two of them asked different users.
    """
    stored = {seed: cell.sample(name) for seed, cell in cells.items() if cell.has(name)}
    first = next(iter(stored.values()), {"users": np.zeros(0, dtype=np.int64)})
    if any(not np.array_equal(arrays["users"], first["users"]) for arrays in stored.values()):
        raise ValueError(f"{name}: the seeds {', '.join(map(str, stored))} asked different users")
    figures = [figure for figure in first if figure != "users"]
    values = {figure: np.stack([arrays[figure] for arrays in stored.values()]).astype(np.float64) for figure in figures}
    return Sample(list(stored), first["users"], values)


def shared(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Both samples with the seeds, users and figures that both have. Where their users differ, a user has one case at most."""
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    names = [name for name in first.values if name in second.values]
    users_C, columns, other_columns = first.users_C, np.arange(len(first.users_C)), np.arange(len(second.users_C))
    if not np.array_equal(users_C, second.users_C):
        users_C, columns, other_columns = np.intersect1d(users_C, second.users_C, return_indices=True)

    def part(sample: Sample, columns: np.ndarray) -> Sample:
        rows = [sample.seeds.index(seed) for seed in seeds]
        return Sample(seeds, users_C, {name: sample.values[name][rows][:, columns] for name in names})

    return part(first, columns), part(second, other_columns)


def entry_of(cells: Cells) -> dict[str, Any]:
    """What a table's entry for a row says of its cells: seeds, code, and the mean of their seconds by kind of work."""
    found = [cell.facts for cell in cells.values()]
    return {
        "seeds": list(cells),
        "commits": sorted({facts["commit"] for facts in found}),
        "dirty": any(facts["dirty"] for facts in found),
        "seconds": {kind: float(np.mean([facts["seconds"][kind] for facts in found])) for kind in found[0]["seconds"]},
    }


def total_seconds(entries: list[dict[str, Any]]) -> float:
    """Seconds of all cells of a table, whichever command ran them. `<kind>_processor` is the same work on another clock."""
    return sum(
        len(entry["seeds"]) * seconds
        for entry in entries
        for kind, seconds in entry.get("seconds", {}).items()
        if not kind.endswith("_processor")
    )
