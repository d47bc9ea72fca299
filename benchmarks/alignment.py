"""What alignment is worth: objectives, rollouts and rewards, judged by a reward model that did not reward and by real feedback.

    python -m benchmarks.alignment kuairand-pure --out benchmarks/results/alignment-kuairand.json
    python -m benchmarks.alignment amazon-beauty --out benchmarks/results/alignment-beauty.json
    python -m benchmarks.alignment kuairand-pure --only start ecpo --seeds 17 --out runs/again.json --cells runs/again

On KuaiRand the reward model of one half of the users rewards and that of the other half judges; hit rates count the videos that
a user watched long in the test part. On Beauty rewards are rules. Settings were chosen on validation lists of seed 17.

A cell (row and seed) takes minutes on one core and is kept in `--cells`; the same command goes on where it stopped, and several
processes started with it share the cells that are left. `--keep` adds the rows of an earlier file that have no cells here.
Datasets are folders below $ONEREC_DATA. `--quick` takes a few steps from hardly trained generators, and the file says so.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.alignment_cells import cell_folder, run_cell
from benchmarks.alignment_rows import KUAIRAND, ROWS, SEEDS, Row
from benchmarks.cells import claim, data_folder, finished
from benchmarks.results_file import write_results_file

MAIN_METRICS = ("judge_gain", "hit", "recall@10", "ndcg@10")


def main() -> int:
    """Run the cells that are missing, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(ROWS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=Path, default=Path("runs/alignment"), help="folder of finished cells")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows to run; the file has all finished ones")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="an earlier file, for the rows and seeds without cells here"
    )
    parser.add_argument("--finished", action="store_true", help="run no cell")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    rows = {row.name: row for row in ROWS[parsed.dataset]()}
    if unknown := set(parsed.only or ()) - rows.keys():
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    cells = parsed.cells / ("quick" if parsed.quick else "full")
    wanted = [row for name, row in rows.items() if not parsed.only or name in parsed.only]
    for seed in [] if parsed.finished else parsed.seeds:
        for row in wanted:
            if seed in row.seeds:
                run_if_missing(row, rows[row.start], parsed.dataset, seed, data, cells, parsed.quick)
    return finish(parsed, list(rows.values()), data, cells)


def run_if_missing(row: Row, start: Row, dataset: str, seed: int, data: Path, cells: Path, quick: bool) -> None:
    """Run a cell unless it is done, somebody works on it, or the one that it starts from is not done."""
    folder = cell_folder(cells, dataset, row, seed)
    if not row.trains and not finished(cell_folder(cells, dataset, start, seed)):
        print(f"{row.name} seed {seed}: left out, {start.name} is not finished", flush=True)
    elif claim(folder):
        began = time.perf_counter()
        run_cell(row, start, dataset, seed, data, cells, quick=quick)
        print(f"{row.name} seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)


def finish(parsed: argparse.Namespace, rows: list[Row], data: Path, cells: Path) -> int:
    """Tables and file from the cells that are finished."""
    from benchmarks.alignment_durations import duration_rows
    from benchmarks.alignment_markdown import markdown
    from benchmarks.alignment_table import table, with_kept
    from onerec.provenance import code_version, machine, versions

    kept = json.loads(parsed.keep.read_text(encoding="utf-8"))["rows"] if parsed.keep else []
    made = with_kept(table(rows, parsed.dataset, cells), kept, rows)
    if not made:
        print("no cell is finished yet")
        return 1
    commit, dirty = code_version()
    facts: dict[str, Any] = {"name": "alignment", "dataset": parsed.dataset, "commit": commit, "dirty": dirty}
    facts |= {"seed": parsed.seeds, "quick": parsed.quick, "versions": versions(), "machine": machine()}
    facts["cell_commits"] = sorted({commit for row in made for commit in row["commits"]})
    # Of all cells, whichever command ran them.
    kinds = ("training", "alignment", "measuring")
    facts["seconds"] = sum(len(row["seeds"]) * sum(row["seconds"].get(kind, 0.0) for kind in kinds) for row in made)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.alignment", *sys.argv[1:]])
    durations = duration_rows(data / parsed.dataset) if parsed.dataset == KUAIRAND else []
    results = {"run": facts, "figures": figures_of(made), "rows": [*made, *durations]}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def figures_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The main figures by name: `judge_gain_ecpo`, `recall@10_difference_ecpo_selection`, `legality_format_random` ..."""
    figures: dict[str, Any] = {}
    for row in rows:
        for search in ("beam", "selection"):
            name = row["name"] if search == "beam" else f"{row['name']}_selection"
            difference = row.get(search, {}).get("difference", {})
            for metric, figure in ((metric, difference[metric]) for metric in MAIN_METRICS if metric in difference):
                figures[f"{metric}_{name}" if metric == "judge_gain" else f"{metric}_difference_{name}"] = figure
        if "legality" in row:
            figures[f"legality_{row['name']}"] = row["legality"]
    return figures


if __name__ == "__main__":
    sys.exit(main())
