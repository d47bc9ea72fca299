"""A study: rows x seeds -> cells -> a table. Any number of processes share the cells, and each goes on where it stopped."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.samples import Cells, total_seconds

# Measures one cell: its facts (`seconds` by kind of work among them, and perhaps a `headline` for the terminal) and its samples.
Measure = Callable[["Study", Cell], tuple[dict[str, Any], Mapping[str, Arrays]]]


def study_parser(name: str, description: str | None, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """A command line with the options of every study; without `seeds` to start from, none can be asked for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="results file to write")
    parser.add_argument("--cells", type=Path, default=Path("runs") / name, help="folder of cells")
    parser.add_argument("--only", "--rows", nargs="+", metavar="NAME", default=[], help="rows to run")
    if seeds:
        parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument(
        "--finished", action="store_true", help="run no cell; make the table of those that are finished"
    )
    parser.add_argument("--quick", action="store_true", help="a run for tests, which the file says")
    return parser


def chosen_rows(parser: argparse.ArgumentParser, rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, or all where there are none; the command line's error for a name that no row has."""
    if unknown := set(names) - {row.name for row in rows}:
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not names or row.name in names]


@dataclass(frozen=True)
class Study:
    """Rows, seeds, and where their cells lie.

    Attributes:
        name: of the benchmark.
        rows: of the table, in its order.
        measure: what fills a cell.
        seeds: training seeds.
        data: the folder of all datasets.
        cells: the folder of all cells.
        quick: whether cells are made for tests.
    """

    name: str
    rows: Sequence[Row]
    measure: Measure
    seeds: Sequence[int]
    data: Path
    cells: Path
    quick: bool

    @classmethod
    def of(cls, name: str, rows: Sequence[Row], measure: Measure, data: Path, parsed: argparse.Namespace) -> "Study":
        """The study that a command line asks for; quick cells lie apart from others."""
        cells = parsed.cells / ("quick" if parsed.quick else "full")
        return cls(name, rows, measure, parsed.seeds, data, cells, parsed.quick)

    def cell(self, row: Row, seed: int) -> Cell:
        """The cell of a row and a seed, finished or not."""
        return Cell(row, seed, self.cells / row.dataset / f"{row.name}-{seed}")

    def needed(self, cell: Cell) -> Cell | None:
        """The cell that this one reads."""
        name = cell.row.needs
        found = next((row for row in self.rows if (row.dataset, row.name) == (cell.row.dataset, name)), None)
        return self.cell(found, cell.seed) if found else None

    def finished(self, row: Row) -> Cells:
        """A row's finished cells by seed.

        Raises:
            UserError: one was made with other settings.
        """
        from onerec.errors import UserError

        seeds = [seed for seed in self.seeds if not row.seeds or seed in row.seeds]
        cells = {seed: cell for seed in seeds if (cell := self.cell(row, seed)).finished}
        for cell in cells.values():
            if cell.facts["row"]["settings"] != list(row.settings):
                raise UserError(
                    f"{cell.folder} was made with other settings; remove it, or take another folder with --cells"
                )
        return cells

    def run_missing(self, rows: Sequence[Row]) -> None:
        """Fill the cells of some rows that are not finished, that no other process fills, and whose needs are met.

        All rows come with the first seed before any comes with the second.
        """
        for cell in [self.cell(row, seed) for seed in self.seeds for row in rows if not row.seeds or seed in row.seeds]:
            words = f"{cell.row.dataset} {cell.row.name} seed {cell.seed}"
            needed = self.needed(cell)
            if needed is not None and not needed.finished:
                print(f"{words}: left out, row {needed.row.name} is not finished", flush=True)
            elif cell.claim():
                began = time.perf_counter()
                facts, samples = self.measure(self, cell)
                seconds = time.perf_counter() - began
                origin = run_facts(self.name, row=asdict(cell.row), seed=cell.seed, quick=self.quick)
                cell.write({**origin, **facts}, samples)
                headline = f"{facts['headline']}, " if "headline" in facts else ""
                print(f"{words}: {headline}{seconds:.0f} s", flush=True)

    def results(self, entries: list[dict[str, Any]], figures: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The content of a results file; `more` are other facts of the run."""
        commits = sorted({commit for entry in entries for commit in entry.get("commits", ())})
        facts = {
            "seed": list(self.seeds),
            "quick": self.quick,
            "cell_commits": commits,
            "seconds": total_seconds(entries),
        }
        run = run_facts(self.name, **(facts | more))
        return {"run": run, "figures": figures, "rows": entries}


def show_and_write(results: dict[str, Any], markdown: Callable[[dict[str, Any]], str], *paths: Path) -> int:
    """Print a study's tables and write its results files; the command's exit status, 1 without rows."""
    if not results["rows"]:
        print("no cell is finished yet")
        return 1
    print(markdown(results))
    for path in paths:
        write_results_file(path, results)
    return 0
