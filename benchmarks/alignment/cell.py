"""A cell of the alignment benchmark: a generator aligned by one row's settings with one seed, and everything measured of it.

Cells of one seed share the trained generator and both reward models, which lie in the cell of the row that they need. Samples are
`<part>_<search>` with what `Yardstick.measure` counts, `pass_judge` and `pass_hit` with a figure for each K, and `legality`.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.alignment.measures import TOP, Yardstick, yardstick_of
from benchmarks.alignment.rows import AlignmentRow, settings_of
from benchmarks.study.cells import Arrays, Cell
from benchmarks.study.runs import config_of, lend, lists_of, one_core
from benchmarks.study.study import Study

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.model.generator import Generator
    from onerec.recommenders.generator import GeneratorRecommender
    from onerec.run.run import Run

RUN, START = "run", "start"
# Stages of START that other generators need too.
SHARED = ("sequences", "semantic_ids", "reward_first", "reward_second")
CASES: dict[str, dict[str, int | None]] = {
    "all": {"valid": 4000, "test": None},
    "lists": {"valid": 4000, "test": 6000},
    "legality": {"test": 2000},
    "ranks": {"valid": None, "test": None},
}
QUICK_CASES = 60
PASS_CASES, PASS_WIDTH = 2000, 512
FREE_GROUP = 32  # samples for each user whose legality is counted
CURVES = (
    "reward",
    "legality",
    "entropy",
    "kl_to_start",
    "next_code_loss",
    "items_in_batch",
    "ratio_max",
    "negative_coefficient",
    "objective_gradient_norm",
    "negative_gradient_norm",
    "rollout_share",
    "seconds",
)
# Curves that should be bounded, whose largest values are kept beside the means.
LARGEST = ("ratio_max", "negative_coefficient", "objective_gradient_norm", "negative_gradient_norm")
POINTS = 50  # of a curve


def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Train or align a generator, and measure it."""
    from onerec.run.opening import make_run
    from rl.alignment.stage import align_generator
    from rl.config.run import config_of as alignment_config
    from rl.reward_model.choice import judging_name, rewarding_name

    row, lender = cell.row, study.needed(cell)
    assert isinstance(row, AlignmentRow)
    settings = settings_of(row, lender.row if lender else row, study.quick)
    config = config_of(row.dataset, row.name, cell.seed, settings, study.data)
    run = make_run(config, cell.folder / RUN)
    seconds: dict[str, float] = {}
    facts: dict[str, Any] = {}
    if lender is None:
        if row.name != START:
            lend(run.folder.parents[1] / f"{START}-{cell.seed}" / RUN, run.folder, SHARED)
        run.make("generator")
        if row.measured != "ranks":
            sections = alignment_config(run)
            for name in filter(None, (rewarding_name(sections), judging_name(sections))):
                run.make(name)
        seconds["training"] = run.artefact("generator").seconds
    else:
        lend(lender.folder / RUN, run.folder, (*SHARED, "generator"))
        processor = time.process_time()
        aligned = align_generator(run)
        processor = time.process_time() - processor
        seconds |= {"alignment": run.artefact(aligned.name).seconds, "alignment_processor": processor}
        facts["curves"] = curves_of(aligned / "metrics.jsonl")
    one_core(config)
    began = time.process_time()
    samples, coverage = samples_of(run, row, study.quick)
    seconds["measuring"] = time.process_time() - began
    facts |= {
        "dataset_sha256": run.dataset.sha256,
        "seconds": seconds,
        "config": config.model_dump(mode="json", exclude={"dataset", "baselines"}),
        "coverage@10": coverage,
    }
    if lender is not None:
        shutil.rmtree(run.folder)
    return facts, samples


def samples_of(run: "Run", row: AlignmentRow, quick: bool) -> tuple[dict[str, Arrays], dict[str, float]]:
    """Samples by name, and coverage@10 by part and search."""
    from onerec.run.stages.generator import load_generator
    from rl.alignment.stage import aligned_name
    from rl.config.run import config_of as alignment_config

    parts: dict[str, Requests] = {}
    for part, most in CASES[row.measured].items():
        parts[part] = run.requests("valid" if part == "valid" else "test", QUICK_CASES if quick else most)
    stage = aligned_name(alignment_config(run)) if row.needs else "generator"
    generator = load_generator(run, stage)
    if row.measured == "legality":
        return {"legality": legality(generator.generator, parts["test"], run.config.seed)}, {}
    yardstick = yardstick_of(run, judged=row.measured != "ranks")
    samples: dict[str, Arrays] = {}
    coverage: dict[str, float] = {}
    for part, requests in parts.items():
        selected = row.measured == "all" and part == "test"  # selection is measured on test users alone
        lists = selected_lists(run, stage, requests) if selected else {"beam": lists_of(run, generator, requests)}
        for search, items_CK in lists.items():
            found = yardstick.measure(requests, items_CK)
            kept = {name: values.astype(np.float32) for name, values in found.items()}
            samples[f"{part}_{search}"] = {"users": requests.users_C, **kept}
            coverage[f"{part}_{search}"] = len(np.unique(items_CK[:, :TOP])) / len(run.item_ids)
    if row.measured == "all":
        samples |= pass_curves(run, generator, yardstick, 8 if quick else PASS_CASES, 16 if quick else PASS_WIDTH)
    return samples, coverage


def selected_lists(run: "Run", stage: str, requests: "Requests") -> dict[str, np.ndarray]:
    """Lists of 50 by the search that made them: "beam", and "selection" from the same beam by the rewarding model.

    Args:
        run: with a trained reward model.
        stage: which left the generator.
        requests: who asks.
    """
    from onerec.data.candidates import best_of
    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.recommenders.cascade import as_candidates
    from rl.reward_model.selection import RewardSelectionStage

    selections = (one for one in run.stages.values() if isinstance(one, RewardSelectionStage))
    cascade = next(one for one in selections if one.proposing == stage).load(run)
    exclude_seen = run.config.recommend.exclude_seen
    found = as_candidates(cascade.recommender.recommend(requests, cascade.candidates, exclude_seen=exclude_seen))
    selected = best_of(found, cascade.reranker.score(requests, found), LIST_LENGTH)
    return {"beam": found.items_CK[:, :LIST_LENGTH], "selection": selected.items_CK}


def pass_curves(
    run: "Run", generator: "GeneratorRecommender", yardstick: Yardstick, cases: int, width: int
) -> dict[str, Arrays]:
    """Of the K most probable items, K = 1, 2, 4 ..., the best P-Score and whether the user took one."""
    from rl.rollouts.pass_at_k import best_of_first, doubling

    requests, wide = run.requests("test", cases), replace(generator, beam_width=width, batch_size=32)
    items_CK = wide.recommend(requests, width, exclude_seen=run.config.recommend.exclude_seen).items_CK
    ks = doubling(width)
    curves = {
        "pass_judge": best_of_first(yardstick.scores(requests, items_CK), ks),
        "pass_hit": best_of_first(yardstick.taken_by(requests.users_C, items_CK).astype(np.float64), ks),
    }
    return {
        name: {"users": requests.users_C, **dict(zip(map(str, ks), values.astype(np.float32).T, strict=True))}
        for name, values in curves.items()
    }


def legality(generator: "Generator", requests: "Requests", seed: int) -> dict[str, np.ndarray]:
    """The sample of free samples' `legality`: for each history the share of them that are an item's codes."""
    import torch

    from rl.config.rollouts import RolloutConfig
    from rl.rollouts.rollouts import generate_groups

    config = RolloutConfig(method="free", group_size=FREE_GROUP)
    rollouts = generate_groups(generator, requests, config, torch.Generator().manual_seed(seed))
    return {"users": requests.users_C, "legality": rollouts.legal.float().mean(dim=1).cpu().numpy()}


def curves_of(metrics: Path) -> dict[str, Any]:
    """Curves of an alignment's log: means over equal pieces of its steps, and the largest values of what should be bounded."""
    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    pieces = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    curves: dict[str, Any] = {"step": [int(piece[-1]) + 1 for piece in pieces]}
    for name in CURVES:
        values = [[steps[place][name] for place in piece if name in steps[place]] for piece in pieces]
        if any(values):
            curves[name] = [float(np.mean(found)) if found else None for found in values]
            if name in LARGEST:
                curves[f"{name}_largest"] = [float(np.max(found)) if found else None for found in values]
    return curves
