"""A cell of the alignment benchmark: a generator aligned by one row's settings with one seed, and everything measured of it.

Cells of one seed share the trained generator and both reward models, which lie in the cell of the row that they need. Samples are
`<part>_<search>` with what `Yardstick.measure` counts, `pass_judge` and `pass_hit` with a figure for each K, and `legality`.
"""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment.measures import TOP, Yardstick, yardstick_of
from benchmarks.alignment.rows import AlignmentRow, settings_of
from benchmarks.study.cells import Arrays, Cell
from benchmarks.study.runs import config_of, lend, make_run, one_core
from benchmarks.study.study import Study

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
    from rl.align_rewards import train_reward_models

    from rl.alignment.stage import align_generator, align_stage

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
        run.tokenize()
        run.train_generator()
        if row.measured != "ranks":
            train_reward_models(run)
        seconds["training"] = run.generator_stage.seconds
    else:
        lend(lender.folder / RUN, run.folder, (*SHARED, "generator"))
        processor = time.process_time()
        align_generator(run)
        seconds |= {"alignment": align_stage(run).seconds, "alignment_processor": time.process_time() - processor}
        facts["curves"] = curves_of(align_stage(run).folder / "metrics.jsonl")
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


def samples_of(run: Any, row: AlignmentRow, quick: bool) -> tuple[dict[str, Arrays], dict[str, float]]:
    """Samples by name, and coverage@10 by part and search."""
    from rl.align_rewards import load_judge

    from rl.rollouts.prompts import Prompts

    parts = {}
    for part, most in CASES[row.measured].items():
        cases = run.cases(part, QUICK_CASES if quick else most)
        parts[part] = Prompts(cases, run.readings(cases))
    generator = run.load_generator(f"aligned_{run.config.align.objective}" if row.needs else "generator")
    if row.measured == "legality":
        return {"legality": legality(generator.generator, parts["test"], run.config.seed)}, {}
    yardstick = yardstick_of(run, None if row.measured == "ranks" else load_judge(run))
    samples: dict[str, Arrays] = {}
    coverage: dict[str, float] = {}
    for part, prompts in parts.items():
        for search, items_CK in lists_of(run, row, generator, prompts, part).items():
            found = yardstick.measure(prompts, items_CK)
            kept = {name: values.astype(np.float32) for name, values in found.items()}
            samples[f"{part}_{search}"] = {"users": prompts.cases.user_index, **kept}
            coverage[f"{part}_{search}"] = len(np.unique(items_CK[:, :TOP])) / len(run.item_ids)
    if row.measured == "all":
        samples |= pass_curves(run, generator, yardstick, 8 if quick else PASS_CASES, 16 if quick else PASS_WIDTH)
    return samples, coverage


def lists_of(run: Any, row: AlignmentRow, generator: Any, prompts: Any, part: str) -> dict[str, np.ndarray]:
    """Lists of 50 by the search that made them: "beam", and "selection" by the rewarding model for rows that measure everything.

    Selection is measured on test users alone.
    """
    from rl.align_rewards import rewarding_section

    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.scorers.selection import best
    from rl.alignment.stage import align_stage
    from rl.reward_model.selection import load_reward_selection, mixture

    if row.measured != "all" or part != "test":
        return {"beam": run.recommend(generator, prompts.cases, LIST_LENGTH)[0]}
    section = rewarding_section(run)
    assert section is not None  # a reward model rewards the rows that measure everything
    selecting = load_reward_selection(run, section, align_stage(run) if row.needs else None)
    found = selecting.judged_proposals(prompts, run.config.recommend.exclude_seen)
    items_CK, log_probabilities_CK, log_scores_CK = found
    mixed_CK = mixture(log_probabilities_CK, log_scores_CK, selecting.weight)
    return {"beam": items_CK[:, :LIST_LENGTH], "selection": best(items_CK, mixed_CK, LIST_LENGTH)[0]}


def pass_curves(run: Any, generator: Any, yardstick: Yardstick, cases: int, width: int) -> dict[str, Arrays]:
    """Of the K most probable items, K = 1, 2, 4 ..., the best P-Score and whether the user took one."""
    from rl.rollouts.pass_at_k import best_of_first, doubling
    from rl.rollouts.prompts import Prompts

    asked = run.cases("test", cases)
    prompts = Prompts(asked, run.readings(asked))
    before, generator.beam_width = (generator.beam_width, generator.batch_size), width
    generator.batch_size = 32
    items_CK = run.recommend(generator, asked, width)[0]
    generator.beam_width, generator.batch_size = before
    ks = doubling(width)
    curves = {
        "pass_judge": best_of_first(yardstick.scores(prompts, items_CK), ks),
        "pass_hit": best_of_first(yardstick.taken_by(asked.user_index, items_CK).astype(np.float64), ks),
    }
    return {
        name: {"users": asked.user_index, **dict(zip(map(str, ks), values.astype(np.float32).T, strict=True))}
        for name, values in curves.items()
    }


def legality(generator: Any, prompts: Any, seed: int) -> dict[str, np.ndarray]:
    """The sample of free samples' `legality`: for each history the share of them that are an item's codes."""
    import torch

    from rl.config.alignment import RolloutConfig
    from rl.rollouts.rollouts import generate_groups

    config = RolloutConfig(method="free", group_size=FREE_GROUP)
    rollouts = generate_groups(generator, prompts, config, torch.Generator().manual_seed(seed))
    return {"users": prompts.cases.user_index, "legality": rollouts.legal.float().mean(dim=1).cpu().numpy()}


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
