"""A cell of the ablation table: the shipped config of a dataset with one thing changed, trained briefly and measured.

Semantic IDs are made once per recipe and seed, and cells share them. Samples are `valid` and `test`.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.generators.candidates import candidates_of, ranked
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import case_figures, config_of, lend, lists_of, shared_ids, training_counts_of
from benchmarks.study.study import Study

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.run.run import Run

# Validated once, at the end: every row is measured with the weights of its last epoch.
BUDGET: dict[str, tuple[str, ...]] = {
    # Every position of a window is a target. That differs from what ships, as a row of the table says, and it is faster.
    "amazon-beauty": ("train.epochs=3", "train.validate_every=3", "generator.context=causal", "train.batch_size=64"),
    "kuairand-pure": ("train.epochs=2", "train.validate_every=2"),
}
COMMON = (
    "evaluate.validation_users=200",
    "selection.beam_width=200",
    "selection.fit_cases=4000",
    "baselines.sasrec=null",
)
QUICK = ("train.epochs=1", "train.validate_every=1", "tokenizer.quantizer.rq_vae.steps=50")
USERS = {"valid": 4000, "test": 10000}  # spread evenly over the file
QUICK_USERS = 200
EVERY_ITEM = "every item"
METRICS = ("recall@10", "ndcg@10")


@dataclass(frozen=True)
class AblationRow(Row):
    """A row of the ablation table. A row that needs another one measures that row's generator in another way.

    Attributes:
        search: "beam", "selection" (a beam ranked by a fitted scorer) or "every item".
        beam_width: of the search.
        users: validation and test users at most, where fewer than usual.
    """

    search: str = "beam"
    beam_width: int = 50
    users: int = max(USERS.values())


def settings_of(trained: Row, quick: bool) -> list[str]:
    """What changes in the config of the dataset for a row that trains; its own settings come late and may change the budget."""
    return [*COMMON, *BUDGET[trained.dataset], *trained.settings, *(QUICK if quick else ())]


def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Train the row's generator, or take the one of the row that it needs, and measure its lists."""
    from onerec.run.opening import make_run

    row, lender = cell.row, study.needed(cell) or cell
    assert isinstance(row, AblationRow)
    config = config_of(row.dataset, lender.row.name, cell.seed, settings_of(lender.row, study.quick), study.data)
    run = make_run(config, lender.folder / "run")
    seconds = {"training": 0.0}
    if lender is cell:
        shared = shared_ids(config, study.cells / row.dataset / "ids")
        lend(shared.folder, run.folder, ("semantic_ids",))
        seconds["training"] = train(run)
    if row.search == "selection":
        run.make("selection")  # what it counts and fits once is no part of making lists
    began, users = time.process_time(), min(row.users, QUICK_USERS) if study.quick else row.users
    every = {"valid": run.requests("valid"), "test": run.requests("test")}
    rows = {part: rows_of(len(requests), USERS[part], users) for part, requests in every.items()}
    asked = {part: requests.pick(rows[part]) for part, requests in every.items()}
    lists = search(run, row, rows, asked)
    seconds["lists"] = time.process_time() - began
    figures = {part: figures_of(run, asked[part], lists[part]) for part in USERS}
    facts = {
        "dataset_sha256": run.dataset.sha256,
        "config": config.model_dump(mode="json", exclude={"dataset", "baselines"}),
        "headline": f"NDCG@10 {figures['valid']['ndcg@10']:.4f} on validation, {figures['test']['ndcg@10']:.4f} on test",
        "seconds": seconds,
        "parameters": parameters_of(run),
        "figures": figures,
    }
    if lender is cell and not any(other.needs == row.name for other in study.rows):
        shutil.rmtree(run.folder)
    return facts, {part: case_figures(lists[part], asked[part], METRICS) for part in USERS}


def train(run: "Run") -> float:
    """Train the run's generator and return the seconds of one core, which other work on the machine disturbs less than the clock.

    Attempts that were killed count by their share of the clock's seconds.
    """
    trained = run.artefact("generator")
    if trained.done:
        return trained.seconds
    clock, processor = time.perf_counter(), time.process_time()
    run.make("generator")
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return processor * max(1.0, trained.seconds / clock)


def rows_of(requests: int, usual_size: int, size: int) -> np.ndarray:
    """Numbers of requests, spread evenly over those of the usual size, so that a smaller choice is part of the usual one."""
    from onerec.data.split import even_rows

    usual = even_rows(requests, usual_size)
    return usual[even_rows(len(usual), size)]


def search(
    run: "Run", row: AblationRow, rows: dict[str, np.ndarray], asked: dict[str, "Requests"]
) -> dict[str, np.ndarray]:
    """Lists of 50 for every part, fewer where the beam is narrower. Validation lists of selection are cross-fitted.

    Args:
        run: with a trained generator.
        row: says how to search.
        rows: numbers of the requests by part.
        asked: these requests.
    """
    from onerec.run.stages.generator import load_generator

    if row.search == "selection":
        names, parts = candidates_of(run, rows)
        return dict(zip(("valid", "test"), ranked(parts, names, names), strict=True))
    every_item = row.search == EVERY_ITEM
    generator = load_generator(run, beam_width=len(run.item_ids) if every_item else row.beam_width)
    if every_item:
        generator.batch_size = 4
    return {part: lists_of(run, generator, requests) for part, requests in asked.items()}


def figures_of(run: "Run", requests: "Requests", items_CK: np.ndarray) -> dict[str, Any]:
    """Means over the requests, and Recall@10 of the cold ones among them, whose targets training never shows."""
    from onerec.evaluate.metrics import coverage

    values, counts_N = case_figures(items_CK, requests, METRICS), training_counts_of(run)
    cold_C = counts_N[requests.targets_C] == 0
    figures: dict[str, Any] = {name: float(np.mean(values[name])) for name in METRICS}
    figures |= {"cases": len(requests), "coverage@10": coverage(items_CK, len(counts_N), 10)}
    return figures | {"cold_cases": int(cold_C.sum()), "cold_hits@10": float(np.sum(values["recall@10"][cold_C]))}


def parameters_of(run: "Run") -> dict[str, int]:
    """Trained parameters of the generator: all, those that one token can use, and those outside of embeddings and item head."""
    from onerec.model.counting import count_parameters
    from onerec.run.stages.generator import load_generator

    found = count_parameters(load_generator(run).generator)
    return {"total": found.total, "active": found.active, "layers": found.total - found.tables}
