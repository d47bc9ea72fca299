"""What each kind of evidence is worth to selection: the scorer of a finished run, refitted without it.

    python -m benchmarks.recall configs/beauty.yaml --dataset amazon-beauty --out benchmarks/results/beauty-17.json
    python -m benchmarks.selection runs/beauty --out benchmarks/results/selection-beauty-17.json

The generator proposes once; each row is a scorer fitted on validation cases with some of the features, and measured on test
users spread evenly over the file (`--users`). Differences to all evidence are paired. Validation figures are cross-fitted.
"""

import argparse
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import write_results_file

GROUPS = {
    "item scorer": ("item_score",),
    "co-occurrence": ("co_occurrence", "co_occurrence_root", "never_together", "directly_after"),
    "likeness of content": ("content_mean", "content_most"),
    "likeness of behaviour": ("behaviour_mean", "behaviour_most"),
    "that an item is new": ("new", "new_content_mean", "new_content_most"),
}


def main() -> int:
    """Propose, refit, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=6000, help="test users to measure on, at most")
    parsed = parser.parse_args()
    from onerec.run.provenance import code_version, machine, versions
    from onerec.run.run import reopen_run

    started = time.time()
    run = reopen_run(parsed.run, [])
    rows = measure(run, parsed.users)
    commit, dirty = code_version()
    config = run.config.model_dump(mode="json")
    config["dataset"]["folder"] = Path(config["dataset"]["folder"]).name
    facts: dict[str, Any] = {
        "name": "selection",
        "quick": False,
        "commit": commit,
        "dirty": dirty,
        "seed": run.config.seed,
    }
    facts |= {"versions": versions(), "machine": machine(), "seconds": time.time() - started, "config": config}
    facts["command"] = shlex.join(["python", "-m", "benchmarks.selection", *sys.argv[1:]])
    figures = {f"{metric} {row['evidence']}": row[metric] for row in rows for metric in ("recall@10", "ndcg@10")}
    results = {"run": facts, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def measure(run: Any, users: int) -> list[dict[str, Any]]:
    """One row per set of features: the generator's order, all evidence, all but one kind, and one kind alone."""
    from onerec.data.split import even_rows

    sizes = {"valid": run.config.selection.fit_cases, "test": users}
    names, parts = proposed(run, {part: even_rows(len(run.cases(part)), size) for part, size in sizes.items()})
    kinds = {kind: [name for name in group if name in names] for kind, group in GROUPS.items()}
    kinds = {kind: group for kind, group in kinds.items() if group}
    sets = {"all": names}
    sets |= {f"without {kind}": [name for name in names if name not in group] for kind, group in kinds.items()}
    sets |= {f"the generator and {kind}": ["log_probability", *group] for kind, group in kinds.items()}
    lists = {what: ranked(parts, names, chosen) for what, chosen in sets.items()}
    valid = parts["valid"]
    lists["the generator's order"] = (valid.items[valid.even, :50], parts["test"].items[:, :50])
    return [row_of(run, parts, what, made, lists["all"]) for what, made in lists.items()]


@dataclass(frozen=True)
class Proposed:
    """Cases, their proposals and what is known about these; of validation also how the scorer counts each case."""

    cases: Any
    items: np.ndarray
    features: np.ndarray
    counts: np.ndarray
    even: np.ndarray


def proposed(run: Any, rows: dict[str, np.ndarray]) -> tuple[list[str], dict[str, Proposed]]:
    """Names of the evidence, and by part of the data what is proposed to the cases of these numbers.

    To those of validation come the cases with new items that a scorer is fitted on; `even` tells them apart.
    """
    from onerec.run.stages.selection import make_evidence, proposing_generator
    from onerec.scorers.selection import FittingCases, fitting_cases, proposals

    section, exclude_seen = run.config.selection, run.config.recommend.exclude_seen
    generator = proposing_generator(run, section)
    evidence, parts = make_evidence(run, section, generator), {}
    for part, chosen in rows.items():
        asked = FittingCases(run.cases(part).pick(chosen), np.ones(len(chosen)), np.ones(len(chosen), bool))
        if part == "valid":
            asked = fitting_cases(run.cases(part), chosen, evidence, section.new_item_weight)
        cases = asked.cases
        made = proposals(
            generator, evidence, cases.history_items, cases.history_offsets, exclude_seen, run.readings(cases)
        )
        parts[part] = Proposed(cases, *made, asked.counts_C, asked.even_C)
    return evidence.names, parts


def ranked(parts: dict[str, Proposed], names: list[str], chosen: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 50 for validation (cross-fitted) and test cases by a scorer that sees the chosen features only."""
    from onerec.scorers.linear_weights import Scorer
    from onerec.scorers.selection import best, chosen_places, cross_fitted

    columns = [names.index(name) for name in chosen]
    valid, test = parts["valid"], parts["test"]
    features, taken = valid.features[..., columns], chosen_places(valid.items, valid.cases.target)
    lists = cross_fitted(chosen, valid.items, features, taken, 50, valid.counts)
    scorer = Scorer.fit(chosen, features, valid.items >= 0, taken, valid.counts)
    scores = scorer.log_probabilities(test.features[..., columns], test.items >= 0)
    return lists[valid.even], best(test.items, scores, 50)[0]


def row_of(run: Any, parts: dict[str, Any], what: str, made: Any, reference: Any) -> dict[str, Any]:
    """Figures of one ranking, and its paired differences to the one by all evidence."""
    from onerec.evaluate.breakdown import training_counts
    from onerec.evaluate.ranking import Measure, quick_figures

    valid, test_cases = parts["valid"], parts["test"].cases
    counts = training_counts(run.training[0], len(run.item_ids))
    measure = Measure(
        test_cases, counts, np.arange(len(counts)), run.config.evaluate.bootstrap_samples, run.config.seed
    )
    figures, paired = measure.figures(made[1], id_level=False), measure.paired(made[1], reference[1])
    kept = ("recall@10", "ndcg@10", "recall@50")
    return {
        "evidence": what,
        "users": len(test_cases),
        "valid": quick_figures(made[0], valid.cases.pick(np.flatnonzero(valid.even))),
        **{metric: figures[metric] for metric in kept},
        "against_all": {metric: paired[metric] for metric in kept},
    }


def markdown(results: dict[str, Any]) -> str:
    """The table for terminal and docs."""
    from benchmarks.result_tables import interval, origin, share, signed

    lines = [
        "| the beam ranked by | valid NDCG@10 | Recall@10 | NDCG@10 | NDCG@10 against all | Recall@50 |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        against = "" if row["evidence"] == "all" else signed(row["against_all"]["ndcg@10"])
        cells = [
            row["evidence"],
            share(row["valid"]["ndcg@10"]),
            interval(row["recall@10"]),
            share(row["ndcg@10"]["value"]),
        ]
        lines.append("| " + " | ".join([*cells, against, share(row["recall@50"]["value"])]) + " |")
    users = results["rows"][0]["users"]
    return "\n".join([*lines, "", f"{users:,} test users; {origin(results['run'])}"])


if __name__ == "__main__":
    sys.exit(main())
