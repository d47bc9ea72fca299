"""What the reward model knows: AUC, GAUC and calibration of every tower, and whether its fusion beats the hand-weighted sum.

    python -m benchmarks.reward_model --out benchmarks/results/reward-kuairand.json
    python -m benchmarks.reward_model --seeds 17 --cells runs/again --out runs/again.json

The config is configs/kuairand.yaml, the dataset kuairand-pure below $ONEREC_DATA, and no generator is trained. The reward model
learns from one half of the users (`--half`) before the test part and is measured on test impressions of the others. Intervals are
of the first seed, over users, beside the values of all seeds. A cell (seed) is kept in `--cells`; the same command goes on where
it stopped. `--quick` trains one epoch, and the file says so.
"""

import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.output.text import markdown_table, origin, share, share_interval, signed_interval
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import config_of, data_folder
from benchmarks.study.study import Study, show_and_write, study_parser

NAME = "reward_model"
DATASET = "kuairand-pure"
SEEDS = (17, 18, 19)
QUICK = ("reward.train.epochs=1", "evaluate.bootstrap_samples=100")
SCORES = ("tower", "fusion", "sum", "fusion - sum")
HEADER = (
    "objective",
    "positives",
    "AUC of its tower",
    "by seed",
    "GAUC",
    "predicted / observed",
    "fusion",
    "fusion − sum",
)


def main() -> int:
    """Run the cells that are missing, print the table, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--half", choices=("first", "second"), default="first")
    parsed = parser.parse_intermixed_args()
    row = Row(DATASET, parsed.half, settings=tuple(parsed.overrides))
    study = Study.of(NAME, [row], measure, data_folder(parser), parsed)
    if not parsed.finished:
        study.run_missing([row])
    found = {seed: cell.facts for seed, cell in study.finished(row).items()}
    entries = entries_of(found)
    first = next(iter(found.values()), {})
    facts = {name: first.get(name) for name in ("impressions", "users")}
    facts |= {"half": parsed.half, "seconds": sum(sum(one["seconds"].values()) for one in found.values())}
    results = study.results(entries, figures_of(entries), **facts)
    return show_and_write(results, markdown, parsed.out)


def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Train one seed's reward model and measure it on users that it learnt nothing from. The run stays in the cell's folder."""
    from onerec.run.opening import make_run
    from rl.reward_model.stage import RewardEvaluationStage

    settings = [*(QUICK if study.quick else ()), *cell.row.settings]
    run = make_run(config_of(DATASET, "reward", cell.seed, settings, study.data), cell.folder / "run")
    evaluation = run.stages[f"reward_{cell.row.name}/evaluation"]
    assert isinstance(evaluation, RewardEvaluationStage)
    figures = evaluation.figures(run)
    others = figures["others"]
    return {
        "dataset_sha256": run.dataset.sha256,
        "seconds": {"training": run.artefact(evaluation.trained.name).seconds},
        "objectives": {name: others[name] for name in figures["objectives"] if name in others},
        **{name: others[name] for name in ("impressions", "users")},
    }, {}


def entries_of(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """An entry per objective: the first seed's figures, and the values of all seeds."""
    if not found:
        return []
    objectives = {seed: facts["objectives"] for seed, facts in found.items()}
    return [
        {
            "objective": name,
            **figures,
            "seeds": {
                str(seed): {score: one[name]["auc"][score]["value"] for score in SCORES}
                for seed, one in objectives.items()
            },
        }
        for name, figures in next(iter(objectives.values())).items()
    ]


def figures_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """`auc_<objective>`, `gauc_<objective>` and `fusion_minus_sum_auc_<objective>` of the first seed."""
    figures: dict[str, Any] = {}
    for row in entries:
        name = row["objective"]
        figures |= {f"auc_{name}": row["auc"]["tower"], f"gauc_{name}": row["gauc"]["tower"]}
        figures[f"fusion_minus_sum_auc_{name}"] = row["auc"]["fusion - sum"]
    return figures


def markdown(results: dict[str, Any]) -> str:
    """The table, for terminal and docs."""
    lines = []
    for row in results["rows"]:
        auc, gauc, ratio = row["auc"], row["gauc"]["tower"], row["calibration"]["ratio"]
        lines.append(
            (
                f"`{row['objective']}`",
                f"{row['positives']:,}",
                share_interval(auc["tower"], 3),
                ", ".join(share(one["tower"], 3) for one in row["seeds"].values()),
                "none" if gauc is None else share_interval(gauc, 3),
                "" if ratio is None else f"{ratio:.2f}",
                share(auc["fusion"]["value"]),
                signed_interval(auc["fusion - sum"]),
            )
        )
    run = results["run"]
    said = f"{run['impressions']:,} test impressions of {run['users']:,} users of the other half; seconds are of training; "
    return f"{markdown_table(HEADER, lines)}\n\n{said}{origin(run)}"


if __name__ == "__main__":
    sys.exit(main())
