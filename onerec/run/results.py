"""Everything a run measured, in one shape: what `results.json` holds and the report reads."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from onerec.data.contract import Dataset
from onerec.data.split import Cases
from onerec.evaluate.breakdown import training_counts
from onerec.evaluate.ranking import CaseFigures, Measure
from onerec.files import write_json
from onerec.further import EVALUATED_PARTS, P_SCORE, Further, Judge
from onerec.pipeline import Run
from onerec.provenance import code_version, machine, versions
from onerec.selection_stage import SCORER_FILE
from tokenizer.semantic_ids import SemanticIds

LABELS = {
    "onerec": ("OneRec", "encoder-decoder over semantic IDs, constrained beam search"),
    "onerec_selection": ("OneRec + selection", "the generator's wide beam, ranked by a scorer fitted on validation"),
    "sasrec": ("SASRec", "causal transformer over items, full-softmax cross-entropy, every item scored"),
    "item_knn": ("Item-kNN", "weighted co-occurrence with order, no training"),
    "content_knn": ("Content-kNN", "cosine of item vectors with the history's mean, items without events included"),
    "popularity": ("Popularity", "most frequent training items"),
}
NOTHING_FURTHER = Further()
SHOWN_HISTORY, SHOWN_LIST = 10, 10


def write_results(run: Run, command: str, further: Further = NOTHING_FURTHER) -> dict[str, Any]:
    """Measure every model, write `results.json` into the run folder and return its content.

    Args:
        run: a run whose models are trained.
        command: what the user typed.
        further: models beside the run's own, and who judges all of them.
    """
    results = collect_results(run, command, further)
    write_json(run.folder / "results.json", results)
    return results


def collect_results(run: Run, command: str, further: Further = NOTHING_FURTHER) -> dict[str, Any]:
    """Measure every model's lists and gather all that a reader needs to judge or repeat the run."""
    ids = spoken_ids(run)
    measures = measures_of(run, ids)
    lists = lists_of(run, further)
    judged = {part: judged_figures(further.judge, measure.cases, lists, part) for part, measure in measures.items()}
    test, beside = measures["test"], judged["test"]
    return {
        "run": run_facts(run, command, run.total_seconds() + further.seconds),
        "dataset": dataset_facts(run.dataset),
        "protocol": protocol_of(run, test.cases, test.training_counts_N),
        "judge": None if further.judge is None else further.judge.name,
        "models": {
            name: {
                **_described(run, name, made, further),
                **_speed(made, measures),
                **_figures(name, made, measures, {part: figures[name] for part, figures in judged.items()}),
            }
            for name, made in lists.items()
        },
        "paired": {
            f"{own} - {other}": test.paired(lists[own]["test"], lists[other]["test"], beside[own], beside[other])
            for own, other in _comparisons(list(lists))
        },
        "reward_models": dict(further.reward_models),
        "semantic_ids": _semantic_ids(ids),
        "examples": _examples(run, lists, test.cases),
        "notes": [*_notes(run, test.training_counts_N, test.cases), *further.notes],
    }


def lists_of(run: Run, further: Further) -> dict[str, dict[str, np.ndarray]]:
    """The top lists of the run's own models and of those beside them by name, in the order that results have."""
    lists = {name: run.lists(name) for name in run.recommenders()} | further.lists(run)
    return {name: lists[name] for name in sorted(lists, key=own_first)}


def own_first(name: str) -> int:
    """Sorting key of models: those of OneRec, then those they are compared with."""
    return 0 if name.startswith("onerec") else 1


def judged_figures(
    judge: Judge | None, cases: Cases, lists: Mapping[str, Mapping[str, np.ndarray]], part: str
) -> dict[str, dict[str, np.ndarray]]:
    """Per model the judge's mean P-Score of each case's first ten items, float64 `[C]`; empty where nobody judges."""
    if judge is None:
        return {name: {} for name in lists}
    return {name: {P_SCORE: judge.score(cases, made[part])} for name, made in lists.items()}


def spoken_ids(run: Run) -> SemanticIds:
    """The IDs the generator speaks. Not run.tokenize(): that waits for all processes, and this is the main one alone."""
    return SemanticIds.load(run.generator_stage.folder / "model" / "semantic_ids")


def measures_of(run: Run, ids: SemanticIds) -> dict[str, Measure]:
    """What lists for validation and test cases are measured with."""
    counts = training_counts(run.training[0], len(run.item_ids))
    _, groups = np.unique(ids.quantizer_codes_NQ, axis=0, return_inverse=True)
    options = (run.config.evaluate.bootstrap_samples, run.config.seed)
    return {part: Measure(run.cases(part), counts, groups.ravel(), *options) for part in EVALUATED_PARTS}


def run_facts(run: Run, command: str, seconds: float) -> dict[str, Any]:
    """Config, code, machine and time of a run; `seconds` of all that was needed."""
    commit, dirty = code_version()
    return {
        "name": run.config.name,
        "config": run.config.model_dump(mode="json"),
        "command": command,
        "commit": commit,
        "dirty": dirty,
        "seed": run.config.seed,
        "versions": versions(),
        "machine": machine(),
        "started": datetime.fromtimestamp(run.started, UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
    }


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Name, sizes, hash and licence of a dataset."""
    return {
        "name": dataset.spec.name,
        "users": dataset.log.count_different(dataset.spec.events.user),
        "items": len(dataset.items),
        "events": dataset.log.height,
        "sha256": dataset.sha256,
        "licence": dataset.spec.licence,
    }


def titles_of(dataset: Dataset) -> pl.Series:
    """A readable name of every item: its first text column, or its id where there is none."""
    ids = dataset.items[dataset.spec.items.id].cast(pl.String)
    if not dataset.spec.items.text:
        return ids
    text = dataset.items[dataset.spec.items.text[0]].cast(pl.String).str.strip_chars()
    return pl.select(pl.when(text.is_null() | (text == "")).then(ids).otherwise(text)).to_series()


def _comparisons(names: list[str]) -> list[tuple[str, str]]:
    """Each list of ours against all that come after it: the one with most behind it first, the generator alone last."""
    own = [name for name in reversed(names) if name.startswith("onerec")]
    others = [name for name in names if name not in own]
    return [(name, other) for place, name in enumerate(own) for other in [*own[place + 1 :], *others]]


def protocol_of(run: Run, cases: Cases, counts: np.ndarray) -> dict[str, Any]:
    """How lists are made and judged."""
    recommend, dataset = run.config.recommend, run.config.dataset
    return {
        "split": dataset.split or run.dataset.spec.split,
        "positive": dataset.positive,
        "targets": f"{dataset.targets_per_user} target of each user",
        "exclude_seen": recommend.exclude_seen,
        "beam_width": recommend.beam_width,
        "training_events": len(run.training[0]),
        "cold_cases": int((counts[cases.target] == 0).sum()),
        "dropped_cases": cases.dropped,
    }


def _described(run: Run, name: str, made: Mapping[str, np.ndarray], further: Further) -> dict[str, Any]:
    """What a model is, and what its training took."""
    if name in further.models:
        one = further.models[name]
        return {"label": one.label, "description": one.description, **one.facts}
    label, description = LABELS[name]
    facts: dict[str, Any] = {"label": label, "description": description, "parameters": 0}
    facts["train_seconds"] = float(made["fit_seconds"])
    folders = {"onerec": run.generator_stage.folder, "sasrec": run.sasrec_stage.folder}
    folder = (folders | {"onerec_selection": run.generator_stage.folder}).get(name)
    if folder is not None:
        facts |= json.loads((folder / "training.json").read_text(encoding="utf-8"))
    if name == "onerec_selection":
        facts["selection"] = json.loads((run.selection_stage.folder / SCORER_FILE).read_text(encoding="utf-8"))
        facts["parameters"] += len(facts["selection"]["weights"])
        facts["train_seconds"] += run.selection_stage.seconds
    return facts


def _speed(made: Mapping[str, np.ndarray], measures: Mapping[str, Measure]) -> dict[str, float]:
    cases = sum(len(measure.cases) for measure in measures.values())
    return {"recommend_users_per_second": cases / float(made["seconds"])}


def _figures(
    name: str, made: Mapping[str, np.ndarray], measures: Mapping[str, Measure], beside: Mapping[str, CaseFigures]
) -> dict[str, Any]:
    id_level = name.startswith("onerec")
    parts: dict[str, Any] = {
        part: measure.figures(made[part], id_level=id_level, beside=beside[part]) for part, measure in measures.items()
    }
    return parts | measures["test"].breakdowns(made["test"])


def _semantic_ids(ids: SemanticIds) -> dict[str, Any]:
    levels = range(len(ids.level_sizes))
    loads = [np.bincount(ids.codes_NL[:, level], minlength=ids.level_sizes[level]) for level in levels]
    return {
        "level_sizes": list(ids.level_sizes),
        "quality": ids.quality,
        "code_load": [sorted(load.tolist(), reverse=True) for load in loads],
    }


def _examples(run: Run, lists: dict[str, dict[str, np.ndarray]], cases: Cases) -> list[dict[str, Any]]:
    """A few users drawn by the run's seed, not picked for their hits."""
    count = min(run.config.evaluate.examples, len(cases))
    rows = np.sort(np.random.default_rng(run.config.seed).choice(len(cases), size=count, replace=False))
    titles, ids = titles_of(run.dataset), run.item_ids.cast(pl.String)

    def named(item: int) -> dict[str, str]:
        return {"title": titles[item], "item": ids[item]}

    examples = []
    for row in rows:
        begin, end = cases.history_offsets[row], cases.history_offsets[row + 1]
        target = int(cases.target[row])
        examples.append(
            {
                "user": str(run.sequences.user_ids[int(cases.user_index[row])]),
                "history": [named(int(item)) for item in cases.history_items[begin:end][-SHOWN_HISTORY:]],
                "target": named(target),
                "recommendations": {
                    name: [
                        {**named(int(item)), "score": float(score), "hit": int(item) == target}
                        for item, score in zip(made["test"][row], made["test_scores"][row], strict=True)
                        if item >= 0
                    ][:SHOWN_LIST]
                    for name, made in lists.items()
                },
            }
        )
    return examples


def _notes(run: Run, counts: np.ndarray, cases: Cases) -> list[str]:
    """What a reader should know before trusting the figures."""
    notes = [
        "Validation chose the weights; the test users were looked at once, after training.",
        "Tokenizer, generator and baselines learn from training events only. Histories of test users include their "
        "validation item.",
        "Intervals are 95 % percentile bootstraps over users. They do not cover what another training seed would give.",
    ]
    if run.config.generator.pathways.in_use:
        notes.append(
            "The generator reads more than the baselines: its pathways are on (generator.pathways in the config). "
            "The baselines read the items of positive events."
        )
    if run.config.selection is not None:
        notes.append(
            f"Selection's weights were fitted on up to {run.config.selection.fit_cases} of the validation cases: its validation "
            "figures are no held-out figures, its test figures are."
        )
    if run.config.recommend.exclude_seen:
        seen = _share_seen(cases)
        notes.append(
            f"Items of a user's history are not recommended again; {seen:.1%} of the test targets are such repeats."
        )
    if run.dataset.spec.events.time is None and (run.config.dataset.split or run.dataset.spec.split) == "leave_one_out":
        notes.append(
            "The log has no timestamps. If events of one day stand in the order of their ids, models that see ids profit."
        )
    cold = int((counts[cases.target] == 0).sum())
    if cold:
        notes.append(f"{cold} of {len(cases)} test targets never occur in training; they are kept in every figure.")
    return notes


def _share_seen(cases: Cases) -> float:
    targets = np.repeat(cases.target, np.diff(cases.history_offsets))
    hits = np.add.reduceat((cases.history_items == targets).astype(np.int64), cases.history_offsets[:-1])
    return float((hits > 0).mean())
