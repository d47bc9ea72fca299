"""Recall of the generator and its baselines: one complete run of a config, its results kept as JSON.

    python -m benchmarks.recall configs/demo.yaml --out benchmarks/results/demo-17.json
    python -m benchmarks.recall configs/beauty.yaml --dataset amazon-beauty --out benchmarks/results/beauty-17.json

`--dataset NAME` takes the dataset folder of that name below the folder that the environment variable ONEREC_DATA names.
`--quick` stops training after one epoch and alignment after five steps, and the file says so: its figures say nothing of quality.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results_file

FIGURES = ("recall@10", "ndcg@10", "recall@50")
QUICK = ("train.epochs=1", "baselines.sasrec.train.epochs=1", "evaluate.bootstrap_samples=200", "align.steps=5")


def main() -> int:
    """Run, print the comparison, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--dataset", help="name of a dataset folder below $ONEREC_DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_intermixed_args()
    overrides = [*parsed.overrides, *(QUICK if parsed.quick else ())]
    if parsed.dataset:
        folder = os.environ.get("ONEREC_DATA")
        if not folder:
            parser.error("--dataset needs the environment variable ONEREC_DATA")
        overrides.append(f"dataset.folder={Path(folder) / parsed.dataset}")
    results = complete_run(parsed.config, overrides, parsed.runs)
    results["run"]["command"] = shlex.join(["python", "-m", "benchmarks.recall", *sys.argv[1:]])
    results["run"]["quick"] = parsed.quick
    # Where the data lay on this machine is nobody's business and no part of the result.
    results["run"]["config"]["dataset"]["folder"] = Path(results["run"]["config"]["dataset"]["folder"]).name
    # Rows of a dataset (titles, histories) stay with its licence: the report shows them, committed files do not.
    results.pop("examples")
    write_results_file(parsed.out, {**results, "figures": figures_of(results), "rows": rows_of(results)})
    return 0


def complete_run(config: Path, overrides: list[str], runs: Path) -> dict[str, Any]:
    """Do all stages of a config in this process and return what it measured."""
    from rl.stages import check_stages, further_of, train_stages

    from onerec.report.report import write_report
    from onerec.report.terminal import print_comparison
    from onerec.run.config import load_config
    from onerec.run.results import write_results
    from onerec.run.run import open_run

    loaded = load_config(config, overrides)
    run = open_run(loaded, runs / loaded.name)
    check_stages(run)
    run.train()
    train_stages(run)
    results = write_results(run, "", further_of(run))
    write_report(run.folder)
    print_comparison(results, run.folder, run.console)
    plain: dict[str, Any] = json.loads(json.dumps(results, default=str))
    return plain


def figures_of(results: dict[str, Any]) -> dict[str, Any]:
    """The main figures by name: `test_recall@10_onerec`, `onerec_minus_sasrec_recall@10`, ..."""
    figures: dict[str, Any] = {}
    for model, facts in results["models"].items():
        for part in ("valid", "test"):
            for name in FIGURES:
                figures[f"{part}_{name}_{model}"] = facts[part][name]
    for pair, differences in results["paired"].items():
        for name in FIGURES:
            figures[f"{pair.replace(' - ', '_minus_')}_{name}"] = differences[name]
    return figures


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per model, as the README's table shows it."""
    return [
        {
            "model": facts["label"],
            "parameters": facts["parameters"],
            "train_seconds": facts["train_seconds"],
            **{f"test_{name}": facts["test"][name]["value"] for name in FIGURES},
        }
        for facts in results["models"].values()
    ]


if __name__ == "__main__":
    sys.exit(main())
