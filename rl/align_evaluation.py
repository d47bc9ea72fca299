"""What alignment has changed: figures of the generator before and after on the same cases, with paired intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onerec.artefacts import Stage, key_of
from onerec.data.split import Cases
from onerec.evaluate.bootstrap import interval, paired_interval
from onerec.evaluate.ranking import LIST_LENGTH
from onerec.evaluate.results import dataset_facts, measures_of, protocol_of, run_facts, spoken_ids
from onerec.evaluate.terminal import interval_text, share_text
from onerec.files import write_json
from onerec.pipeline import EVALUATED_PARTS, Run
from onerec.train.runtime import set_threads
from rl.align import TRAINING_FILE, align_stage, load_aligned
from rl.align_rewards import judging_section, load_judge
from rl.prompts import Prompts
from rl.rewards.preference_score import PreferenceScore

BEFORE, AFTER = "onerec_generation", "onerec_aligned"
P_SCORE = "p_score@10"
SHOWN = ("recall@10", "recall@50", "ndcg@10", P_SCORE)
LABELS = {
    BEFORE: ("OneRec", "the generator before alignment, constrained beam search"),
    AFTER: ("OneRec, aligned", "the same generator after alignment"),
}


def evaluate_alignment(run: Run, command: str) -> dict[str, Any]:
    """Measure the generator before and after; writes `results.json` into the stage's folder and returns its content.

    Args:
        run: with an aligned generator.
        command: what the user typed.
    """
    lists = {BEFORE: run.lists("onerec"), AFTER: aligned_lists(run)}
    measures, judge, judging = measures_of(run, spoken_ids(run)), load_judge(run), judging_section(run)
    folders = {BEFORE: run.generator_stage.folder, AFTER: align_stage(run).folder}
    models = {name: _described(folder, *LABELS[name]) for name, folder in folders.items()}
    paired: dict[str, Any] = {}
    for part, measure in measures.items():
        scores = {name: judged_lists(run, judge, measure.cases, made[part]) for name, made in lists.items()}
        options = (measure.cases.user_index, measure.samples, measure.seed)
        differences = measure.paired(lists[AFTER][part], lists[BEFORE][part])
        for name, made in lists.items():
            models[name][part] = measure.figures(made[part], id_level=True)
            if judge is not None:
                models[name][part][P_SCORE] = interval(scores[name], *options)
        if judge is not None:
            differences[P_SCORE] = paired_interval(scores[AFTER], scores[BEFORE], *options)
        paired[f"{AFTER} - {BEFORE}" if part == "test" else f"{AFTER} - {BEFORE} ({part})"] = differences
    test = measures["test"]
    seconds = sum(stage.seconds for stage in (run.ids_stage, run.generator_stage, align_stage(run)))
    results = {
        "run": run_facts(run, command, seconds),
        "dataset": dataset_facts(run.dataset),
        "protocol": protocol_of(run, test.cases, test.training_counts_N),
        "judge": None if judge is None or judging is None else f"reward model of {judging.half or 'all'} users",
        "models": models,
        "paired": paired,
        "notes": _notes(run),
    }
    write_json(align_stage(run).folder / "results.json", results)
    return results


def aligned_lists(run: Run) -> dict[str, np.ndarray]:
    """The aligned generator's top lists for validation and test cases, made once and kept in its folder."""
    recommend, trained = run.config.recommend, align_stage(run)
    stage = Stage(trained.folder / "lists", key_of("lists", trained.key, recommend.beam_width, recommend.exclude_seen))
    if not stage.done:
        stage.begin()
        run.say("aligned generator: recommending to validation and test users")
        set_threads(run.config.threads, run.config.generator.width)
        recommender, made = load_aligned(run, run.config.align.objective), {}
        for part in EVALUATED_PARTS:
            cases = run.cases(part)
            asked = (cases.history_items, cases.history_offsets, LIST_LENGTH, recommend.exclude_seen)
            made[part], made[f"{part}_scores"] = recommender.recommend(*asked, run.readings(cases))
        np.savez(stage.folder / "lists.npz", **made)  # type: ignore[arg-type]
        stage.finish()
    with np.load(stage.folder / "lists.npz") as stored:
        return dict(stored)


def judged_lists(run: Run, judge: PreferenceScore | None, cases: Cases, items_CK: np.ndarray) -> np.ndarray:
    """The judge's mean P-Score of each case's first ten items, float64 `[C]`; zeros where there is no judge."""
    if judge is None:
        return np.zeros(len(cases))
    top = torch.from_numpy(items_CK[:, :10].astype(np.int64))
    scores = judge.score(Prompts(cases, run.readings(cases)), top.clamp(min=0)).double()
    listed = top >= 0
    mean: np.ndarray = ((scores * listed).sum(dim=1) / listed.sum(dim=1).clamp(min=1)).numpy()
    return mean


def _described(folder: Path, label: str, description: str) -> dict[str, Any]:
    facts = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    return {"label": label, "description": description, **facts}


def _notes(run: Run) -> list[str]:
    notes = ["Alignment starts from training events; of the test part neither it nor any reward model learns anything."]
    if run.config.align.rewards.p_score:
        notes.append(
            "The reward model that rewards has learnt validation events of most users, so validation figures of the aligned "
            "generator are no held-out figures; its test figures are."
        )
    return notes


def print_alignment(results: dict[str, Any], console: Console) -> None:
    """Print figures before and after and the paired differences, of validation and of test."""
    for part, suffix in (("valid", " (valid)"), ("test", "")):
        paired = results["paired"][f"{AFTER} - {BEFORE}{suffix}"]
        cases = results["models"][BEFORE][part]["cases"]
        table = Table(title=f"{results['dataset']['name']}: {part}, {cases:,} cases", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        shown = [name for name in SHOWN if name in paired]
        for name in (*shown, "coverage@10"):
            table.add_column(name, justify="right", no_wrap=True)
        for model in results["models"].values():
            figures = model[part]
            cells = [interval_text(figures[name]) for name in shown]
            table.add_row(model["label"], *cells, share_text(figures["coverage@10"]))
        table.add_row("aligned - before", *(_difference(paired[name]) for name in shown), "")
        table.width = Measurement.get(console, console.options.update_width(220), table).maximum
        console.print(table)
    judge = results["judge"]
    console.print(
        "(low to high): 95 % bootstrap interval over users; differences are paired. "
        + (f"{P_SCORE}: mean P-Score of the first ten, by the {judge}, which did not reward." if judge else "")
    )


def _difference(figure: dict[str, float]) -> str:
    return f"{figure['value']:+.4f} ({figure['low']:+.4f} to {figure['high']:+.4f})"
