"""All figures of a run in one shape, which `results.json` holds and the report reads."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from onerec.data.contract import Dataset
from onerec.data.requests import Requests
from onerec.evaluate.breakdown import training_counts
from onerec.evaluate.ranking import CaseFigures, Measure
from onerec.files import write_json
from onerec.run.lists import lists_of_all
from onerec.run.models import EVALUATED_PARTS, P_SCORE, Judge, Model, lists_artefact
from onerec.run.plugins import plugins
from onerec.run.provenance import code_version, machine, versions
from onerec.run.run import Run
from tokenizer.semantic_ids import SemanticIds

SHOWN_HISTORY, SHOWN_LIST = 10, 10


def write_results(run: Run, command: str) -> dict[str, Any]:
    """Measure every model, write `results.json` into the run folder and return its content.

    Args:
        run: with trained models.
        command: as the user typed it.
    """
    results = collect_results(run, command)
    write_json(run.folder / "results.json", results)
    return results


def collect_results(run: Run, command: str) -> dict[str, Any]:
    """Measure every model's lists, and gather all that a reader needs to judge or repeat the run."""
    ids = generator_ids(run)
    measures, models, lists = measures_of(run, ids), run.models(), lists_of_all(run)
    judge = judge_of(run)
    judged = {part: judged_figures(judge, measure.requests, lists, part) for part, measure in measures.items()}
    test, beside = measures["test"], judged["test"]
    added: dict[str, Any] = {}
    for plugin in plugins():
        added |= plugin.results(run)
    return {
        "run": run_facts(run, command, total_seconds(run)),
        "dataset": dataset_facts(run.dataset),
        "protocol": protocol_of(run, test.requests, test.training_counts_N),
        "judge": None if judge is None else judge.name,
        "models": {
            name: {
                **_described(models[name], made),
                **_speed(made, measures),
                **_figures(models[name], made, measures, {part: figures[name] for part, figures in judged.items()}),
            }
            for name, made in lists.items()
        },
        "paired": {
            f"{own} - {other}": test.paired(lists[own]["test"], lists[other]["test"], beside[own], beside[other])
            for own, other in _comparisons([models[name] for name in lists])
        },
        **added,
        "semantic_ids": semantic_id_facts(ids),
        "examples": _examples(run, lists, test.requests),
        "notes": _notes(run, test.training_counts_N, test.requests),
    }


def judge_of(run: Run) -> Judge | None:
    """The judge of all models' lists: the first that a plugin offers, or None."""
    offered = (plugin.judge(run) for plugin in plugins())
    return next((judge for judge in offered if judge is not None), None)


def judged_figures(
    judge: Judge | None, requests: Requests, lists: Mapping[str, Mapping[str, np.ndarray]], part: str
) -> dict[str, dict[str, np.ndarray]]:
    """For each model the judge's mean P-Score of each list's first ten items, float64 `[C]`; empty without a judge."""
    if judge is None:
        return {name: {} for name in lists}
    return {name: {P_SCORE: judge.score(requests, made[part])} for name, made in lists.items()}


def generator_ids(run: Run) -> SemanticIds:
    """The semantic IDs that the generator was trained with."""
    return SemanticIds.load(run.intact("generator") / "model" / "semantic_ids")


def measures_of(run: Run, ids: SemanticIds) -> dict[str, Measure]:
    """The measures of lists, for validation and for test requests."""
    counts = training_counts(run.training[0], len(run.item_ids))
    _, groups = np.unique(ids.quantizer_codes_NQ, axis=0, return_inverse=True)
    options = (run.config.evaluate.bootstrap_samples, run.config.seed)
    return {part: Measure(run.requests(part), counts, groups.ravel(), *options) for part in EVALUATED_PARTS}  # type: ignore[arg-type]


def total_seconds(run: Run) -> float:
    """Wall-clock seconds of all stages and lists together, including those that an earlier command made."""
    stages = [stage for stage in run.stages.values() if stage.stored and stage.asked(run)]
    seconds = sum(stage.artefact(run).seconds for stage in stages)
    exclude_seen, seed = run.config.recommend.exclude_seen, run.config.seed
    return seconds + sum(lists_artefact(one, run.folder, exclude_seen, seed).seconds for one in run.models().values())


def run_facts(run: Run, command: str, seconds: float) -> dict[str, Any]:
    """Config, code, machine and time of a run. `seconds` is what everything took."""
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
    """A readable name of every item: its first text column, or its id if it has no text."""
    ids = dataset.items[dataset.spec.items.id].cast(pl.String)
    if not dataset.spec.items.text:
        return ids
    text = dataset.items[dataset.spec.items.text[0]].cast(pl.String).str.strip_chars()
    return pl.select(pl.when(text.is_null() | (text == "")).then(ids).otherwise(text)).to_series()


def _comparisons(models: list[Model]) -> list[tuple[str, str]]:
    """Pairs of models: each of ours with all that follow it. Ours come first, the generator alone as the last of them."""
    own = [model.name for model in reversed(models) if model.own]
    others = [model.name for model in models if not model.own]
    return [(name, other) for place, name in enumerate(own) for other in [*own[place + 1 :], *others]]


def protocol_of(run: Run, requests: Requests, counts: np.ndarray) -> dict[str, Any]:
    """How lists are made and measured."""
    recommend, dataset = run.config.recommend, run.config.dataset
    return {
        "split": dataset.split or run.dataset.spec.split,
        "positive": dataset.positive,
        "targets": f"{dataset.targets_per_user} target of each user",
        "exclude_seen": recommend.exclude_seen,
        "beam_width": recommend.beam_width,
        "training_events": len(run.training[0]),
        "cold_cases": int((counts[requests.targets_C] == 0).sum()),
        "dropped_cases": requests.dropped,
    }


def _described(model: Model, made: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a model is, and how long its training took."""
    facts = {"label": model.label, "description": model.description, "own": model.own, "parameters": 0}
    return {**facts, "train_seconds": float(made["fit_seconds"]), **model.facts()}


def _speed(made: Mapping[str, np.ndarray], measures: Mapping[str, Measure]) -> dict[str, float]:
    cases = sum(len(measure.requests) for measure in measures.values())
    return {"recommend_users_per_second": cases / float(made["seconds"])}


def _figures(
    model: Model, made: Mapping[str, np.ndarray], measures: Mapping[str, Measure], beside: Mapping[str, CaseFigures]
) -> dict[str, Any]:
    parts: dict[str, Any] = {
        part: measure.figures(made[part], id_level=model.own, more=beside[part]) for part, measure in measures.items()
    }
    return parts | measures["test"].breakdowns(made["test"])


def semantic_id_facts(ids: SemanticIds) -> dict[str, Any]:
    """Sizes, quality and use of semantic IDs: `code_load` has the items per code of each level, the fullest code first."""
    levels = zip(ids.codes_NL.T, ids.level_sizes, strict=True)
    loads = [np.sort(np.bincount(codes_N, minlength=size))[::-1].tolist() for codes_N, size in levels]
    return {"level_sizes": list(ids.level_sizes), "quality": ids.quality, "code_load": loads}


def _examples(run: Run, lists: dict[str, dict[str, np.ndarray]], requests: Requests) -> list[dict[str, Any]]:
    """A few users, drawn by the run's seed and not picked for their hits."""
    count = min(run.config.evaluate.examples, len(requests))
    rows = np.sort(np.random.default_rng(run.config.seed).choice(len(requests), size=count, replace=False))
    titles, ids = titles_of(run.dataset), run.item_ids.cast(pl.String)

    def named(item: int) -> dict[str, str]:
        return {"title": titles[item], "item": ids[item]}

    examples = []
    for row in rows:
        begin, end = requests.history_offsets[row], requests.history_offsets[row + 1]
        target = int(requests.targets_C[row])
        examples.append(
            {
                "user": str(run.sequences.user_ids[int(requests.users_C[row])]),
                "history": [named(int(item)) for item in requests.history_items[begin:end][-SHOWN_HISTORY:]],
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


def _notes(run: Run, counts: np.ndarray, requests: Requests) -> list[str]:
    """What a reader should know before trusting the figures."""
    notes = [
        "Validation chose the weights. The test users were looked at once, after training.",
        "Tokenizer, generator and baselines learn from training events only. Histories of test users include their "
        "validation item.",
        "Intervals are 95 % percentile bootstraps over users. They do not cover what another training seed would give.",
    ]
    if run.config.recommend.exclude_seen:
        seen = _share_seen(requests)
        notes.append(
            f"Items of a user's history are not recommended again; {seen:.1%} of the test targets are such repeats."
        )
    if run.dataset.spec.events.time is None and (run.config.dataset.split or run.dataset.spec.split) == "leave_one_out":
        notes.append(
            "The log has no timestamps. If events of one day stand in the order of their ids, models that see ids profit."
        )
    cold = int((counts[requests.targets_C] == 0).sum())
    if cold:
        notes.append(f"{cold} of {len(requests)} test targets never occur in training; they are kept in every figure.")
    measured = [stage for stage in run.stages.values() if stage.asked(run) and any(True for _ in stage.models(run))]
    return list(dict.fromkeys([*notes, *(note for stage in measured for note in stage.notes(run))]))


def _share_seen(requests: Requests) -> float:
    targets = np.repeat(requests.targets_C, requests.history_lengths_C)
    hits = np.add.reduceat((requests.history_items == targets).astype(np.int64), requests.history_offsets[:-1])
    return float((hits > 0).mean())
