"""The generator before and after alignment or RSFT: figures on the same users, with paired intervals."""

from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from onerec.files import write_json
from onerec.report.charts import Interval
from onerec.report.values import figure, signed, with_interval
from onerec.run.lists import lists_of
from onerec.run.models import EVALUATED_PARTS, P_SCORE, Model
from onerec.run.results import dataset_facts, generator_ids, judged_figures, measures_of, protocol_of, run_facts
from onerec.run.run import Run
from onerec.run.stages.generator import GeneratorStage, seconds_of, training_facts
from onerec.run.stages.semantic_ids import SemanticIdsStage
from rl.alignment.stage import VALIDATION_LEARNT, aligned_model, aligned_name
from rl.config.run import config_of
from rl.reward_model.choice import judging_name
from rl.reward_model.judge import judge_named
from rl.rsft.stage import RsftStage, alignment_start, rsft_model

BEFORE, RSFT, AFTER = "onerec_generation", "onerec_rsft", "onerec_aligned"
SHOWN = ("recall@10", "recall@50", "ndcg@10", P_SCORE)
CHANGES = {RSFT: "RSFT - before", AFTER: "aligned - before"}


def evaluate_alignment(run: Run, command: str) -> dict[str, Any]:
    """Measure the generator that alignment started from and the aligned one; see `compare_generators`."""
    config = config_of(run)
    start, after = alignment_start(config), aligned_name(config)
    before = generator_as_trained(run) if config.rsft is None else rsft_model(run)
    notes = ["Alignment starts from training events. Neither it nor any reward model learns from the test part."]
    if config.align.rewards.p_score:
        notes.append(VALIDATION_LEARNT)
    return compare_generators(run, {start: before, after: aligned_model(run)}, notes, command)


def evaluate_rsft(run: Run, command: str) -> dict[str, Any]:
    """Measure the generator before and after RSFT, as `evaluate_alignment` does. A judge takes part if one is trained."""
    notes = ["Validation chose the weights of both generators. Nothing learns from the test part."]
    both = {GeneratorStage.name: generator_as_trained(run), RsftStage.name: rsft_model(run)}
    return compare_generators(run, both, notes, command)


def generator_as_trained(run: Run) -> Model:
    """The run's generator before RSFT and alignment, as comparisons name it."""
    text = "the generator after next-code training, constrained beam search"
    return replace(next(iter(run.stages[GeneratorStage.name].models(run))), name=BEFORE, description=text)


def compare_generators(run: Run, both: dict[str, Model], notes: list[str], command: str) -> dict[str, Any]:
    """Measure two generators on the same users. Writes `results.json` beside the later one and returns its content.

    Args:
        run: the run of both generators.
        both: the earlier and the later generator, by the name of the stage that made it.
        notes: what a reader should know before trusting the figures.
        command: what the user typed.
    """
    before, after = both.values()
    measures, judging = measures_of(run, generator_ids(run)), judging_name(config_of(run))
    judge = judge_named(run, judging) if judging is not None and run.artefact(judging).done else None
    lists = {model.name: lists_of(run, model) for model in both.values()}
    models: dict[str, Any] = {
        model.name: {
            "label": model.label,
            "description": model.description,
            **training_facts(run.artefact(stage).folder),
        }
        for stage, model in both.items()
    }
    paired: dict[str, Any] = {}
    for part, measure in measures.items():
        beside = judged_figures(judge, measure.requests, lists, part)
        for name, made in lists.items():
            models[name][part] = measure.figures(made[part], id_level=True, more=beside[name])
        paired[_pair(before.name, after.name, part)] = measure.paired(
            lists[after.name][part], lists[before.name][part], beside[after.name], beside[before.name]
        )
    test = measures["test"]
    results = {
        "run": run_facts(run, command, seconds_of(run, (SemanticIdsStage.name, GeneratorStage.name, *both))),
        "dataset": dataset_facts(run.dataset),
        "protocol": protocol_of(run, test.requests, test.training_counts_N),
        "judge": None if judge is None else judge.name,
        "models": models,
        "paired": paired,
        "notes": notes,
    }
    write_json(run.artefact(list(both)[-1]).folder / "results.json", results)
    return results


def _pair(before: str, after: str, part: str) -> str:
    return f"{after} - {before}" if part == "test" else f"{after} - {before} ({part})"


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
        + (f"{P_SCORE}: mean P-Score of the first ten items by the {judge}, which gave no rewards." if judge else "")
    )
