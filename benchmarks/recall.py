"""Recall of the generator and its baselines: one complete run of a config, its results kept as JSON.

    python -m benchmarks.recall configs/demo.yaml --out benchmarks/results/demo-17.json
    python -m benchmarks.recall configs/beauty.yaml --dataset amazon-beauty --out benchmarks/results/beauty-17.json

`--dataset NAME` takes the dataset folder of that name below the folder that the environment variable ONEREC_DATA names.
`--quick` stops training after one epoch and alignment after five steps, and the file says so: its figures say nothing of quality.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.output.text import markdown_table, origin, share, share_interval, signed_interval
from benchmarks.study.runs import data_folder

# What a results file keeps of validation and of paired differences; of the test figures it keeps all.
COMPARED = ("recall@10", "ndcg@10", "recall@50", "p_score@10")
SAME_AS_RECALL = ("ndcg@1", "mrr@1")  # with one place in the list they equal recall@1
MINUS = "_minus_"
HEADER = ("model", "Recall@10", "NDCG@10", "Recall@50", "Recall@10 by ID", "coverage@10", "parameters", "training")
JUDGED_HEADER = "P-Score@10"
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
        overrides.append(f"dataset.folder={data_folder(parser) / parsed.dataset}")
    results = complete_run(parsed.config, overrides, parsed.runs)
    results["run"] |= {"command": run_facts("recall")["command"], "quick": parsed.quick}
    write_results_file(parsed.out, as_results_file(results))
    return 0


def complete_run(config: Path, overrides: list[str], runs: Path) -> dict[str, Any]:
    """Do all stages of a config in this process and return what it measured."""
    from onerec.report.report import write_report
    from onerec.report.terminal import print_comparison
    from onerec.run.config_files import load_config
    from onerec.run.opening import complete, open_run
    from onerec.run.results import write_results

    loaded = load_config(config, overrides)
    run = open_run(loaded, runs / loaded.name)
    complete(run)
    results = write_results(run, "")
    write_report(run.folder)
    print_comparison(results, run.folder, run.console)
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


def markdown(results: dict[str, Any]) -> str:
    """Test figures with 95 % intervals, paired differences, and where they come from; of several seeds also what each gave.

    Where a judge looked at the lists, its mean P-Score is a column.
    """
    rows, dataset = results["rows"], results["dataset"]
    judged = results.get("judge") is not None
    header = (*HEADER[:5], JUDGED_HEADER, *HEADER[5:]) if judged else HEADER
    labels = {row["model"]: row["label"] for row in rows}
    pairs = [
        f"{labels[first]} − {labels[second]} {signed_interval(difference)}"
        for (first, second), difference in differences_of(results, "recall@10").items()
        # Models after training are compared with what they start from alone; the file has all pairs.
        if first in ("onerec", "onerec_selection") or second == "onerec"
    ]
    said = [
        f"Paired differences of Recall@10: {'; '.join(pairs)}.",
        f"{dataset['users']:,} users, {dataset['items']:,} items, {dataset['events']:,} events; {origin(results['run'])}",
    ]
    shown = f"{markdown_table(header, [cells_of(row, judged) for row in rows])}\n\n" + "\n".join(said)
    return "\n\n".join([shown, *seeds_in_words(rows)])


def cells_of(row: dict[str, Any], judged: bool) -> list[str]:
    """A row of the Markdown table."""
    test = row["test"]
    return [
        row["label"],
        share_interval(test["recall@10"]),
        share_interval(test["ndcg@10"]),
        share(test["recall@50"]["value"]),
        share(test["id_recall@10"]["value"]) if "id_recall@10" in test else "",
        *([share(test["p_score@10"]["value"])] if judged else []),
        f"{test['coverage@10']:.0%}",
        f"{row['parameters']:,}" if row["parameters"] else "none",
        f"{row['train_seconds'] / 60:.1f} min",
    ]


def seeds_in_words(rows: list[dict[str, Any]]) -> list[str]:
    """What each seed gave, and what became of cold items, where rows say so."""
    varied = [row for row in rows if len(set(row.get("by_seed", {}).get("recall@10", ()))) > 1]
    cold = [row for row in rows if "cold" in row]
    said = []
    if any("by_seed" in row for row in rows):
        figures = [f"{row['label']} {', '.join(map(share, row['by_seed']['recall@10']))}" for row in varied]
        said.append(f"Recall@10 by seed: {'; '.join(figures)}.")
    if cold:
        figures = [f"{row['label']} {share(row['cold']['recall@10'])}" for row in cold]
        count = cold[0]["cold"]["cases"]
        said.append(f"Recall@10 of the {count} targets that training never shows: {'; '.join(figures)}.")
    return said


if __name__ == "__main__":
    sys.exit(main())
