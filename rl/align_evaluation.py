"""What alignment, or RSFT, has changed: figures of the generator before and after on the same cases, with paired intervals."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onerec.artefacts import Stage
from onerec.evaluate.results import dataset_facts, judged_figures, measures_of, protocol_of, run_facts, spoken_ids
from onerec.files import write_json
from onerec.further import EVALUATED_PARTS, P_SCORE, FurtherModel, kept_lists
from onerec.pipeline import Run
from onerec.report.charts import Interval
from onerec.report.values import figure, signed, with_interval
from rl.align import align_stage
from rl.further_models import aligned_model, judge_of, rsft_model
from rl.rsft_stage import TRAINING_FILE, rsft_stage

BEFORE, RSFT, AFTER = "onerec_generation", "onerec_rsft", "onerec_aligned"
SHOWN = ("recall@10", "recall@50", "ndcg@10", P_SCORE)
CHANGES = {RSFT: "RSFT - before", AFTER: "aligned - before"}


@dataclass(frozen=True)
class MeasuredGenerator:
    """One of the two generators of a comparison.

    Attributes:
        name: in the results.
        label, description: for readers.
        stage: where it lies.
        lists: its top lists by part, items `[C, 50]`.
    """

    name: str
    label: str
    description: str
    stage: Stage
    lists: dict[str, np.ndarray]

    def facts(self) -> dict[str, Any]:
        """What is known of it before it is measured: what its training left on file."""
        trained = json.loads((self.stage.folder / TRAINING_FILE).read_text(encoding="utf-8"))
        return {"label": self.label, "description": self.description, **trained}


def evaluate_alignment(run: Run, command: str) -> dict[str, Any]:
    """Measure the generator before and after alignment.

    Writes `results.json` into the stage's folder and returns its content. Before is what alignment started from.

    Args:
        run: with an aligned generator.
        command: what the user typed.
    """
    before = generator_as_trained(run) if run.config.rsft is None else generator_after_rsft(run)
    model = aligned_model(run)
    after = MeasuredGenerator(AFTER, model.label, model.description, align_stage(run), lists_of(run, model))
    return compare_generators(run, before, after, _notes(run), command)


def evaluate_rsft(run: Run, command: str) -> dict[str, Any]:
    """Measure the trained generator before and after RSFT, as `evaluate_alignment` does; without a judge if none is trained."""
    notes = ["Validation chose the weights of both generators; of the test part nothing learns anything."]
    return compare_generators(run, generator_as_trained(run), generator_after_rsft(run), notes, command)


def generator_as_trained(run: Run) -> MeasuredGenerator:
    """The run's generator with its lists."""
    text = "the generator as next-code training left it, constrained beam search"
    return MeasuredGenerator(BEFORE, "OneRec", text, run.generator_stage, run.lists("onerec"))


def generator_after_rsft(run: Run) -> MeasuredGenerator:
    """The generator that RSFT left, with its lists."""
    model = rsft_model(run)
    return MeasuredGenerator(RSFT, model.label, model.description, rsft_stage(run), lists_of(run, model))


def compare_generators(
    run: Run, before: MeasuredGenerator, after: MeasuredGenerator, notes: list[str], command: str
) -> dict[str, Any]:
    """Measure two generators on the same cases; writes `results.json` where the later one lies and returns its content.

    Args:
        run: whose generators they are.
        before: what was there.
        after: what became of it.
        notes: what a reader should know before trusting the figures.
        command: what the user typed.
    """
    both = (before, after)
    measures, judge = measures_of(run, spoken_ids(run)), judge_of(run)
    models = {one.name: one.facts() for one in both}
    paired: dict[str, Any] = {}
    for part, measure in measures.items():
        beside = judged_figures(judge, measure.cases, {one.name: one.lists for one in both}, part)
        for one in both:
            models[one.name][part] = measure.figures(one.lists[part], id_level=True, beside=beside[one.name])
        paired[_pair(before.name, after.name, part)] = measure.paired(
            after.lists[part], before.lists[part], beside[after.name], beside[before.name]
        )
    test = measures["test"]
    stages = {stage.folder: stage for stage in (run.ids_stage, run.generator_stage, before.stage, after.stage)}
    results = {
        "run": run_facts(run, command, sum(stage.seconds for stage in stages.values())),
        "dataset": dataset_facts(run.dataset),
        "protocol": protocol_of(run, test.cases, test.training_counts_N),
        "judge": None if judge is None else judge.name,
        "models": models,
        "paired": paired,
        "notes": notes,
    }
    write_json(after.stage.folder / "results.json", results)
    return results


def aligned_lists(run: Run) -> dict[str, np.ndarray]:
    """The aligned generator's top lists for validation and test cases, made once and kept in its folder."""
    return lists_of(run, aligned_model(run))


def lists_of(run: Run, model: FurtherModel) -> dict[str, np.ndarray]:
    """The lists of a model that came after the run's own, made once; see `onerec.further.kept_lists`."""
    return kept_lists(run, model.lists_stage, model.label, model.load)


def _pair(before: str, after: str, part: str) -> str:
    return f"{after} - {before}" if part == "test" else f"{after} - {before} ({part})"


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
    before, after = results["models"]
    for part in EVALUATED_PARTS:
        paired = results["paired"][_pair(before, after, part)]
        cases = results["models"][before][part]["cases"]
        table = Table(title=f"{results['dataset']['name']}: {part}, {cases:,} cases", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        shown = [name for name in SHOWN if name in paired]
        for name in (*shown, "coverage@10"):
            table.add_column(name, justify="right", no_wrap=True)
        for model in results["models"].values():
            figures = model[part]
            cells = [with_interval(Interval(**figures[name])) for name in shown]
            table.add_row(model["label"], *cells, figure(figures["coverage@10"]))
        table.add_row(CHANGES[after], *(with_interval(Interval(**paired[name]), signed) for name in shown), "")
        table.width = Measurement.get(console, console.options.update_width(220), table).maximum
        console.print(table)
    judge = results["judge"]
    console.print(
        "(low to high): 95 % bootstrap interval over users; differences are paired. "
        + (f"{P_SCORE}: mean P-Score of the first ten, by the {judge}, which did not reward." if judge else "")
    )
