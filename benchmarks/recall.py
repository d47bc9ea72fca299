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

# What a results file keeps of validation and of paired differences; of the test figures it keeps all.
COMPARED = ("recall@10", "ndcg@10", "recall@50", "p_score@10")
SAME_AS_RECALL = ("ndcg@1", "mrr@1")  # with one place in the list they equal recall@1
MINUS = "_minus_"
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
    write_results_file(parsed.out, as_results_file(results))
    return 0


def complete_run(config: Path, overrides: list[str], runs: Path) -> dict[str, Any]:
    """Do all stages of a config in this process and return what it measured."""
    from onerec.config import load_config
    from onerec.evaluate.report import write_report
    from onerec.evaluate.results import write_results
    from onerec.evaluate.terminal import print_comparison
    from onerec.pipeline import open_run
    from rl.stages import check_stages, further_of, train_stages

    loaded = load_config(config, overrides)
    run = open_run(loaded, runs / loaded.name)
    check_stages(run)
    run.train()
    train_stages(run)
    results = write_results(run, "", further_of(run))
    write_report(run.folder)
    print_comparison(results, run.console)
    plain: dict[str, Any] = json.loads(json.dumps(results, default=str))
    return plain


def as_results_file(results: dict[str, Any]) -> dict[str, Any]:
    """What a complete run measured, in the shape of all results files: a row per model, paired differences as figures.

    Left out are examples, because a dataset's licence covers its titles and histories; where the data lay on this machine; the
    loads of single codes; and figures that equal others.
    """
    run, ids = dict(results["run"]), dict(results.get("semantic_ids", {}))
    config = run["config"]
    run["config"] = {**config, "dataset": {**config["dataset"], "folder": Path(config["dataset"]["folder"]).name}}
    ids.pop("code_load", None)
    figures = {
        f"{pair.replace(' - ', MINUS)}_{metric}": differences[metric]
        for pair, differences in results["paired"].items()
        for metric in COMPARED
        if metric in differences
    }
    rows = [
        {
            "model": name,
            **facts,
            "valid": {key: value for key, value in facts["valid"].items() if key in (*COMPARED, "cases")},
            "test": {key: value for key, value in facts["test"].items() if key not in SAME_AS_RECALL},
        }
        for name, facts in results["models"].items()
    ]
    kept = ("dataset", "protocol", "judge", "reward_models", "notes")
    found = {key: results[key] for key in kept if results.get(key)}
    return {"run": run, **found, **({"semantic_ids": ids} if ids else {}), "figures": figures, "rows": rows}


def differences_of(results: dict[str, Any], metric: str) -> dict[tuple[str, str], dict[str, float]]:
    """By pair of models, the first's figure minus the second's, from a results file."""
    found = {}
    for name, figure in results["figures"].items():
        if MINUS in name and name.endswith(f"_{metric}"):
            first, second = name.removesuffix(f"_{metric}").split(MINUS)
            found[first, second] = figure
    return found


if __name__ == "__main__":
    sys.exit(main())
