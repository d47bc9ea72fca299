"""What each kind of feature is worth to selection: the scorer of a finished run, refitted without it.

    python -m benchmarks.recall configs/beauty.yaml --dataset amazon-beauty --out benchmarks/results/beauty-17.json
    python -m benchmarks.selection runs/beauty --out benchmarks/results/selection-beauty-17.json

The generator makes its candidates once. Each row is a scorer that is fitted on validation cases with some of the features and
measured on test users spread evenly over the file (`--users`). Differences to the scorer with all features are paired. Validation
figures are cross-fitted. `--quick` asks 200 test users, and the file says so.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.generators.candidates import FeaturedCandidates, candidates_of, ranked
from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.output.text import markdown_table, origin, share, share_interval, signed_interval
from benchmarks.study.runs import training_counts_of

if TYPE_CHECKING:
    from onerec.run.run import Run

Lists = tuple[np.ndarray, np.ndarray]  # items [C, 50] for validation and for test requests

GROUPS = {
    "item scorer": ("item_score",),
    "co-occurrence": ("co_occurrence", "co_occurrence_root", "never_together", "directly_after"),
    "likeness of content": ("content_mean", "content_most"),
    "likeness of behaviour": ("behaviour_mean", "behaviour_most"),
    "that an item is new": ("new", "new_content_mean", "new_content_most"),
}
METRICS = ("recall@10", "ndcg@10", "recall@50")
QUICK_USERS = 200
LENGTH = 50  # of the lists
HEADER = ("the beam ranked by", "valid NDCG@10", "Recall@10", "NDCG@10", "NDCG@10 against all", "Recall@50")


def main() -> int:
    """Make candidates, refit, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=6000, help="test users to measure on, at most")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    from onerec.run.opening import reopen_run

    started = time.time()
    run = reopen_run(parsed.run, [])
    rows = measure(run, QUICK_USERS if parsed.quick else parsed.users)
    config = run.config.model_dump(mode="json")
    config["dataset"]["folder"] = Path(config["dataset"]["folder"]).name
    facts = run_facts(
        "selection", quick=parsed.quick, seed=run.config.seed, seconds=time.time() - started, config=config
    )
    figures = {f"{metric} {row['features']}": row[metric] for row in rows for metric in METRICS[:2]}
    results = {"run": facts, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def measure(run: "Run", users: int) -> list[dict[str, Any]]:
    """One row per set of features: the generator's order, all features, all but one kind, and one kind alone."""
    from onerec.data.split import even_rows
    from onerec.run.stages.selection import section_of

    counts = {"valid": len(run.requests("valid")), "test": len(run.requests("test"))}
    sizes = {"valid": section_of(run).fit_cases, "test": users}
    names, parts = candidates_of(run, {part: even_rows(counts[part], size) for part, size in sizes.items()})
    kinds = {kind: [name for name in group if name in names] for kind, group in GROUPS.items()}
    kinds = {kind: group for kind, group in kinds.items() if group}
    sets = {"all": names}
    sets |= {f"without {kind}": [name for name in names if name not in group] for kind, group in kinds.items()}
    sets |= {f"the generator and {kind}": ["log_probability", *group] for kind, group in kinds.items()}
    lists = {what: ranked(parts, names, chosen) for what, chosen in sets.items()}
    valid, test = parts["valid"], parts["test"]
    as_generated = valid.candidates.items_CK[valid.asked.even_C, :LENGTH], test.candidates.items_CK[:, :LENGTH]
    lists["the generator's order"] = as_generated
    return [row_of(run, parts, what, made, lists["all"]) for what, made in lists.items()]


def row_of(
    run: "Run", parts: dict[str, FeaturedCandidates], what: str, made: Lists, reference: Lists
) -> dict[str, Any]:
    """Figures of one ranking, and its paired differences to the one by all features."""
    from onerec.evaluate.ranking import Measure, quick_figures

    valid, test, counts_N = parts["valid"].asked, parts["test"].asked.requests, training_counts_of(run)
    options = (run.config.evaluate.bootstrap_samples, run.config.seed)
    measured = Measure(test, counts_N, np.arange(len(counts_N)), *options)
    figures, paired = measured.figures(made[1], id_level=False), measured.paired(made[1], reference[1])
    return {
        "features": what,
        "users": len(test),
        "valid": quick_figures(made[0], valid.requests.pick(np.flatnonzero(valid.even_C))),
        **{metric: figures[metric] for metric in METRICS},
        "against_all": {metric: paired[metric] for metric in METRICS},
    }


def markdown(results: dict[str, Any]) -> str:
    """The table for terminal and docs."""
    lines = [
        (
            row["features"],
            share(row["valid"]["ndcg@10"]),
            share_interval(row["recall@10"]),
            share(row["ndcg@10"]["value"]),
            "" if row["features"] == "all" else signed_interval(row["against_all"]["ndcg@10"]),
            share(row["recall@50"]["value"]),
        )
        for row in results["rows"]
    ]
    users = results["rows"][0]["users"]
    return f"{markdown_table(HEADER, lines)}\n\n{users:,} test users; {origin(results['run'])}"


if __name__ == "__main__":
    sys.exit(main())
