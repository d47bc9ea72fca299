"""One cell of the alignment benchmark: a generator aligned by one row's settings with one seed, and everything measured of it.

A finished cell is a folder with `cell.json` and per-case figures as `<part>_<search>_<figure>.npy`. Cells of one seed share the
trained generator and both reward models, which lie in the folder of the row they start from.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment_measures import TOP, Yardstick, yardstick_of
from benchmarks.alignment_rows import CONFIG_FILES, Row
from benchmarks.cells import CONFIGS, origin_of_cell, write_cell

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
LARGEST = (
    "ratio_max",
    "negative_coefficient",
    "objective_gradient_norm",
    "negative_gradient_norm",
)  # beside their means
POINTS = 50  # of a curve


def cell_folder(cells: Path, dataset: str, row: Row, seed: int) -> Path:
    """Where a cell lies."""
    return cells / dataset / f"{row.name}-{seed}"


def run_cell(row: Row, start: Row, dataset: str, seed: int, data: Path, cells: Path, *, quick: bool) -> dict[str, Any]:
    """Train or align, measure, and complete the cell. `start` is the row whose generator is aligned, or the row itself."""
    from onerec.run.config import load_config
    from onerec.run.run import Run
    from onerec.train.runtime import set_threads
    from rl.alignment.rewards import train_reward_models
    from rl.alignment.stage import align_generator, align_stage

    folder = cell_folder(cells, dataset, row, seed)
    config = load_config(CONFIGS / CONFIG_FILES[dataset], row.overrides(start, seed, str(data / dataset), quick))
    run = Run(config, folder / RUN)
    seconds, facts = {}, {}
    if row.trains:
        if row.name != START:
            lend(cell_folder(cells, dataset, replace(row, name=START), seed) / RUN, run.folder, SHARED)
        run.tokenize()
        run.train_generator()
        if row.measured != "ranks":
            train_reward_models(run)
        seconds["training"] = run.generator_stage.seconds
    else:
        lend(cell_folder(cells, dataset, start, seed) / RUN, run.folder, (*SHARED, "generator"))
        processor = time.process_time()
        align_generator(run)
        seconds |= {"alignment": align_stage(run).seconds, "alignment_processor": time.process_time() - processor}
        facts["curves"] = curves_of(align_stage(run).folder / "metrics.jsonl")
    set_threads(config.threads, config.generator.width)
    began = time.process_time()
    arrays, measured = measure(run, row, quick)
    seconds["measuring"] = time.process_time() - began
    cell = {"row": row.__dict__, "seed": seed, "quick": quick, **origin_of_cell(run), "seconds": seconds, **facts}
    cell |= {"config": config.model_dump(mode="json", exclude={"dataset", "baselines"}), "figures": measured}
    write_cell(folder, cell, **arrays)
    if not row.trains:
        shutil.rmtree(run.folder)
    return cell


def lend(lender: Path, folder: Path, stages: tuple[str, ...]) -> None:
    """Put stages of the lender's run folder into a run of its own, as links; those that it has not made are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if (lender / stage).is_dir() and not (folder / stage).exists():
            (folder / stage).symlink_to((lender / stage).resolve(), target_is_directory=True)


def measure(run: Any, row: Row, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Per-case arrays and figures that are no means over cases."""
    from rl.alignment.rewards import load_judge
    from rl.rollouts.prompts import Prompts

    parts = {}
    for part, most in CASES[row.measured].items():
        cases = run.cases(part, QUICK_CASES if quick else most)
        parts[part] = Prompts(cases, run.readings(cases))
    generator = run.load_generator("generator" if row.trains else f"aligned_{run.config.align.objective}")
    if row.measured == "legality":
        return {"test_free_legality": legality(generator.generator, parts["test"], run.config.seed)}, {}
    yardstick = yardstick_of(run, None if row.measured == "ranks" else load_judge(run))
    arrays: dict[str, np.ndarray] = {}
    coverage: dict[str, float] = {}
    for part, prompts in parts.items():
        for search, items_CK in lists_of(run, row, generator, prompts, part).items():
            found = yardstick.measure(prompts, items_CK)
            arrays |= {f"{part}_{search}_{name}": values.astype(np.float32) for name, values in found.items()}
            coverage[f"{part}_{search}"] = len(np.unique(items_CK[:, :TOP])) / len(run.item_ids)
        arrays[f"{part}_users"] = prompts.cases.user_index
    if row.measured == "all":
        arrays |= pass_curves(run, generator, yardstick, 8 if quick else PASS_CASES, 16 if quick else PASS_WIDTH)
    return arrays, {"coverage@10": coverage}


def lists_of(run: Any, row: Row, generator: Any, prompts: Any, part: str) -> dict[str, np.ndarray]:
    """Lists of 50 by the search that made them: "beam", and where everything is measured of test users "selection" by the
    reward model that rewards."""
    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.scorers.selection import best
    from rl.alignment.rewards import rewarding_section
    from rl.alignment.stage import align_stage
    from rl.reward_model.selection import load_reward_selection, mixture

    cases, exclude_seen = prompts.cases, run.config.recommend.exclude_seen
    if row.measured != "all" or part != "test":
        asked = (cases.history_items, cases.history_offsets, LIST_LENGTH, exclude_seen, prompts.readings)
        return {"beam": generator.recommend(*asked)[0]}
    section = rewarding_section(run)
    assert section is not None  # rows that measure everything are rewarded by a reward model
    selecting = load_reward_selection(run, section, None if row.trains else align_stage(run))
    items_CK, log_probabilities_CK, log_scores_CK = selecting.judged_proposals(prompts, exclude_seen)
    mixed_CK = mixture(log_probabilities_CK, log_scores_CK, selecting.weight)
    return {"beam": items_CK[:, :LIST_LENGTH], "selection": best(items_CK, mixed_CK, LIST_LENGTH)[0]}


def pass_curves(run: Any, generator: Any, yardstick: Yardstick, cases: int, width: int) -> dict[str, np.ndarray]:
    """Of the K most probable items, K = 1, 2, 4 ..., the best P-Score and whether one was taken, `[C, K's]` each."""
    from rl.rollouts.pass_at_k import best_of_first, doubling
    from rl.rollouts.prompts import Prompts

    asked = run.cases("test", cases)
    prompts = Prompts(asked, run.readings(asked))
    before, generator.beam_width = (generator.beam_width, generator.batch_size), width
    generator.batch_size = 32
    history = (asked.history_items, asked.history_offsets, width, run.config.recommend.exclude_seen, prompts.readings)
    items_CK = generator.recommend(*history)[0]
    generator.beam_width, generator.batch_size = before
    ks = doubling(width)
    curves = {
        "judge": best_of_first(yardstick.scores(prompts, items_CK), ks),
        "hit": best_of_first(yardstick.taken_by(asked.user_index, items_CK).astype(np.float64), ks),
    }
    return {
        **{f"pass_{name}": values.astype(np.float32) for name, values in curves.items()},
        "pass_users": asked.user_index,
    }


def legality(generator: Any, prompts: Any, seed: int) -> np.ndarray:
    """Of free samples for each history, the share that is an item's codes, float32 `[C]`."""
    import torch

    from rl.config.alignment import RolloutConfig
    from rl.rollouts.rollouts import generate_groups

    config = RolloutConfig(method="free", group_size=FREE_GROUP)
    rollouts = generate_groups(generator, prompts, config, torch.Generator().manual_seed(seed))
    shares: np.ndarray = rollouts.legal.float().mean(dim=1).cpu().numpy()
    return shares


def curves_of(metrics: Path) -> dict[str, Any]:
    """The alignment's curves: means over equal pieces of its steps, largest values beside those of gradients and ratios."""
    import json

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
