"""One table from runs of the same config with different seeds: every user's figure is its mean over the seeds.

    python -m benchmarks.recall configs/beauty.yaml name=beauty-18 seed=18 --dataset amazon-beauty --out runs/beauty-18.json
    python -m benchmarks.seeds runs/beauty runs/beauty-18 runs/beauty-19 --out benchmarks/results/beauty.json

Intervals hold the choice of users around the mean over these seeds; what the seeds give one by one stands beside them. Models of
stages after training are combined too, and judged again by each run's own judge. Runs whose datasets, users or models differ are
refused. Nothing is trained here.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.recall import as_results_file, markdown

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.run.run import Run

BY_SEED = ("recall@10", "ndcg@10")


def main() -> int:
    """Combine, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, one per seed")
    parser.add_argument("--out", type=Path, required=True)
    parsed = parser.parse_args()
    results = combined(parsed.runs)
    results["run"]["command"] = run_facts("seeds")["command"]
    content = as_results_file(results)
    print(markdown(content))
    write_results_file(parsed.out, content)
    return 0


def combined(folders: list[Path]) -> dict[str, Any]:
    """The results of several runs as one, in the shape of `results.json`.

    Raises:
        UserError: the runs are not of the same data, users and models, or two have the same seed.
    """
    from onerec.evaluate.bootstrap import intervals, paired_intervals
    from onerec.run.opening import reopen_run

    stored = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in folders]
    runs = [reopen_run(folder, []) for folder in folders]
    requests = {"valid": runs[0].requests("valid"), "test": runs[0].requests("test")}
    check_alike(folders, stored, [run.requests("test") for run in runs])
    samples, seed = runs[0].config.evaluate.bootstrap_samples, runs[0].config.seed
    by_seed = [figures_by_request(run, requests) for run in runs]
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    models: dict[str, Any] = {}
    for name in stored[0]["models"]:
        values[name] = {
            part: {metric: np.mean([one[name][part][metric] for one in by_seed], axis=0) for metric in figures}
            for part, figures in by_seed[0][name].items()
        }
        models[name] = facts_of(name, stored)
        for part, asked in requests.items():
            models[name][part] |= intervals(values[name][part], asked.users_C, samples, seed)
    paired = {}
    for pair in stored[0]["paired"]:
        first, second = (values[name]["test"] for name in pair.split(" - "))
        paired[pair] = dict(paired_intervals(first, second, requests["test"].users_C, samples, seed))
    run = dict(stored[0]["run"])
    run |= {"seed": [one["run"]["seed"] for one in stored], "seconds": sum(one["run"]["seconds"] for one in stored)}
    run |= {"dirty": any(one["run"]["dirty"] for one in stored), "runs": [one["run"]["commit"] for one in stored]}
    return {
        "run": run,
        "dataset": stored[0]["dataset"],
        "protocol": stored[0]["protocol"],
        "judge": stored[0]["judge"],
        "models": models,
        "paired": paired,
    }


def figures_by_request(run: "Run", requests: dict[str, "Requests"]) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """By model, part and metric the figure of each request `[C]`, P-Scores included where the run has a judge."""
    from onerec.evaluate.metrics import case_metrics, ranks_of
    from onerec.run.lists import lists_of_all
    from onerec.run.results import judge_of, judged_figures

    lists, judge = lists_of_all(run), judge_of(run)
    made: dict[str, dict[str, dict[str, np.ndarray]]] = {name: {} for name in lists}
    for part, asked in requests.items():
        judged = judged_figures(judge, asked, lists, part)
        for name in lists:
            made[name][part] = case_metrics(ranks_of(lists[name][part], asked.targets_C)) | judged[name]
    return made


def check_alike(folders: list[Path], stored: list[dict[str, Any]], requests: list["Requests"]) -> None:
    """Refuse runs that do not belong into one table."""
    from onerec.errors import UserError

    seeds = [one["run"]["seed"] for one in stored]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"the runs have the seeds {', '.join(map(str, seeds))}; each run must have its own")
    for folder, one, asked in zip(folders[1:], stored[1:], requests[1:], strict=True):
        for what in ("dataset", "protocol", "judge"):
            if one[what] != stored[0][what]:
                raise UserError(f"{folder}: its {what} is not that of {folders[0]}; one table holds one")
        if list(one["models"]) != list(stored[0]["models"]):
            raise UserError(f"{folder}: holds other models than {folders[0]}")
        if not np.array_equal(asked.targets_C, requests[0].targets_C):
            raise UserError(f"{folder}: its users are not those of {folders[0]}")


def facts_of(name: str, stored: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said of a model beside its ranks: words of the first run, means of the numbers over all."""
    found = [one["models"][name] for one in stored]
    facts = {key: found[0][key] for key in ("label", "description", "own", "parameters")}
    facts |= {
        key: float(np.mean([one[key] for one in found])) for key in ("train_seconds", "recommend_users_per_second")
    }
    for part in ("valid", "test"):
        facts[part] = {
            key: float(np.mean([one[part][key] for one in found]))
            for key, value in found[0][part].items()
            if not isinstance(value, dict)
        }
        facts[part]["cases"] = found[0][part]["cases"]
        if "id_recall@10" in found[0][part]:
            facts[part]["id_recall@10"] = {
                "value": float(np.mean([one[part]["id_recall@10"]["value"] for one in found]))
            }
    facts["by_seed"] = {metric: [one["test"][metric]["value"] for one in found] for metric in BY_SEED}
    cold = [row for one in found for row in one["by_cold"] if row["bucket"] == "cold"]
    if cold:
        hits = float(np.mean([row["recall@10"]["value"] for row in cold]))
        facts["cold"] = {"cases": cold[0]["cases"], "recall@10": hits}
    return facts


if __name__ == "__main__":
    sys.exit(main())
