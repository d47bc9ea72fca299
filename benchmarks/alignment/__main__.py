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

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.alignment.cell import measure
from benchmarks.alignment.durations import duration_rows
from benchmarks.alignment.entries import entries, with_kept
from benchmarks.alignment.rows import KUAIRAND, ROWS, SEEDS
from benchmarks.alignment.tables import markdown, parts
from benchmarks.study.runs import data_folder
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser

__all__ = ["main", "markdown", "parts"]
NAME = "alignment"
MAIN_METRICS = ("judge_gain", "hit", "recall@10", "ndcg@10")


def main() -> int:
    """Run the cells that are missing, print the tables, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("dataset", choices=sorted(ROWS))
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="an earlier file, for rows and seeds without cells here"
    )
    parsed = parser.parse_args()
    study = Study.of(NAME, ROWS[parsed.dataset](), measure, data_folder(parser), parsed)
    wanted = chosen_rows(parser, study.rows, parsed.only)
    if not parsed.finished:
        study.run_missing(wanted)
    kept = json.loads(parsed.keep.read_text(encoding="utf-8"))["rows"] if parsed.keep else []
    made = with_kept(entries({row: study.finished(row) for row in study.rows}), kept, [row.name for row in study.rows])
    results = study.results(made, figures_of(made), dataset=parsed.dataset)
    if made and parsed.dataset == KUAIRAND:
        results["rows"] = [*made, *duration_rows(study.data / parsed.dataset)]
    return show_and_write(results, markdown, parsed.out)


def figures_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The main figures by name: `judge_gain_ecpo`, `recall@10_difference_ecpo_selection`, `legality_format_random` ..."""
    figures: dict[str, Any] = {}
    for row in rows:
        for search in ("beam", "selection"):
            name = row["name"] if search == "beam" else f"{row['name']}_selection"
            difference = row.get(search, {}).get("difference", {})
            for metric in MAIN_METRICS:
                if metric in difference:
                    ending = "" if metric == "judge_gain" else "_difference"
                    figures[f"{metric}{ending}_{name}"] = difference[metric]
        if "legality" in row:
            figures[f"legality_{row['name']}"] = row["legality"]
    return figures


if __name__ == "__main__":
    sys.exit(main())
