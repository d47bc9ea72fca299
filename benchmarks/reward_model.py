"""What the reward model knows: AUC, GAUC and calibration of every tower, and whether its fusion beats the hand-weighted sum.

    python -m benchmarks.reward_model --out benchmarks/results/reward-kuairand.json
    python -m benchmarks.reward_model --seeds 17 --runs runs/again --out runs/again.json

configs/kuairand.yaml on the dataset kuairand-pure below $ONEREC_DATA, one run per seed in `--runs`, none of which trains a
generator. The reward model learns from one half of the users (`--half`) before the test part and is measured on test impressions
of the others. Intervals are of the first seed, over users, beside the values of all seeds. `--quick` trains one epoch, and the
file says so.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.cells import CONFIGS, data_folder
from benchmarks.results_file import write_results_file

DATASET, CONFIG = "kuairand-pure", "kuairand.yaml"
SEEDS = (17, 18, 19)
QUICK = ("reward.train.epochs=1", "evaluate.bootstrap_samples=100")
SCORES = ("tower", "fusion", "sum", "fusion - sum")


def main() -> int:
    """Train what is missing, measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/reward"))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--half", choices=("first", "second"), default="first")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_intermixed_args()
    data = data_folder(parser)
    found = [measure(seed, data, parsed) for seed in parsed.seeds]
    results = {"run": facts_of(found, parsed), "figures": figures_of(found), "rows": rows_of(found)}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def measure(seed: int, data: Path, parsed: argparse.Namespace) -> dict[str, Any]:
    """Train and measure one seed's reward model; its figures for users that it learnt nothing from, with its seconds."""
    from onerec.run.config import load_config
    from onerec.run.run import Run
    from rl.reward_model.stage import evaluate_reward_model, reward_section, reward_stage, train_reward_model

    chosen = [f"seed={seed}", f"tokenizer.quantizer.seed={seed}", f"reward.half={parsed.half}", "threads=1"]
    chosen += [f"dataset.folder={data / DATASET}", *(QUICK if parsed.quick else ()), *parsed.overrides]
    run = Run(load_config(CONFIGS / CONFIG, chosen), parsed.runs / f"{DATASET}-{seed}")
    section = reward_section(run)
    train_reward_model(run, section)
    figures = evaluate_reward_model(run, section)
    return {
        "seed": seed,
        "objectives": figures["objectives"],
        "seconds": reward_stage(run, section).seconds,
        **figures["others"],
    }


def rows_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per objective: the first seed's figures, and the values of all seeds."""
    first = found[0]
    return [
        {
            "objective": name,
            **first[name],
            "seeds": {str(one["seed"]): {score: one[name]["auc"][score]["value"] for score in SCORES} for one in found},
        }
        for name in first["objectives"]
        if name in first
    ]


def figures_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """`auc_<objective>`, `gauc_<objective>` and `fusion_minus_sum_auc_<objective>` of the first seed."""
    figures: dict[str, Any] = {}
    for row in rows_of(found):
        name = row["objective"]
        figures |= {f"auc_{name}": row["auc"]["tower"], f"gauc_{name}": row["gauc"]["tower"]}
        figures[f"fusion_minus_sum_auc_{name}"] = row["auc"]["fusion - sum"]
    return figures


def facts_of(found: list[dict[str, Any]], parsed: argparse.Namespace) -> dict[str, Any]:
    """Facts of the run, in the shape of all results files."""
    from onerec.run.provenance import code_version, machine, versions

    commit, dirty = code_version()
    first = found[0]
    return {
        "name": "reward_model",
        "commit": commit,
        "dirty": dirty,
        "quick": parsed.quick,
        "seed": [one["seed"] for one in found],
        "half": parsed.half,
        "impressions": first["impressions"],
        "users": first["users"],
        "versions": versions(),
        "machine": machine(),
        "seconds": sum(one["seconds"] for one in found),
        "command": shlex.join(["python", "-m", "benchmarks.reward_model", *sys.argv[1:]]),
    }


def markdown(results: dict[str, Any]) -> str:
    """The table, for terminal and docs."""
    from benchmarks.result_tables import origin, share, signed

    names = (
        "objective",
        "positives",
        "AUC of its tower",
        "by seed",
        "GAUC",
        "predicted / observed",
        "fusion",
        "fusion − sum",
    )
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in results["rows"]:
        auc, ratio = row["auc"], row["calibration"]["ratio"]
        cells = [
            f"`{row['objective']}`",
            f"{row['positives']:,}",
            _short(auc["tower"]),
            ", ".join(f"{one['tower']:.3f}".removeprefix("0") for one in row["seeds"].values()),
            _short(row["gauc"]["tower"]),
            "" if ratio is None else f"{ratio:.2f}",
            share(auc["fusion"]["value"]),
            signed(auc["fusion - sum"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    run = results["run"]
    said = f"{run['impressions']:,} test impressions of {run['users']:,} users of the other half; seconds are of training; "
    return "\n".join([*lines, "", said + origin(run)])


def _short(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "none"
    return "{value:.3f} ({low:.3f}–{high:.3f})".format(**figure).replace("0.", ".")


if __name__ == "__main__":
    sys.exit(main())
