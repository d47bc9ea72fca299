"""One cell of the ablation table: the shipped config of a dataset with one thing changed, trained briefly and measured.

A finished cell is a folder with `cell.json` and, for validation and test cases, the target's rank (0 where it is not in the list)
and the number of the user. Semantic IDs are made once per recipe and seed and shared by all cells that speak them.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import CONFIGS, finished, origin_of_cell, write_cell

DATASETS = {"amazon-beauty": "beauty.yaml", "kuairand-pure": "kuairand.yaml"}
# Validated once, at the end: the weights are those of the last epoch for every row alike.
BUDGET: dict[str, tuple[str, ...]] = {
    # Every position of a window is a target, which is less than what ships by the very row that says so, and faster.
    "amazon-beauty": ("train.epochs=3", "train.validate_every=3", "generator.context=causal", "train.batch_size=64"),
    "kuairand-pure": ("train.epochs=2", "train.validate_every=2"),
}
COMMON = (
    "threads=1",
    "evaluate.validation_users=200",
    "selection.beam_width=200",
    "selection.fit_cases=4000",
    "baselines.sasrec=null",
)
QUICK = ("train.epochs=1", "train.validate_every=1", "tokenizer.quantizer.rq_vae.steps=50")
USERS = {"valid": 4000, "test": 10000}  # spread evenly over the file
QUICK_USERS = 200
EVERY_ITEM = "every item"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        dataset: folder of the dataset.
        name: identifies the row.
        group: heading it stands under.
        label: what it changes, in words.
        settings: what it changes in the dataset's config; empty for the config as it ships, at this table's budget.
        against: the row that its difference is taken to; its own name for a reference.
        model: row whose trained generator this one measures in another way; empty for one that trains its own.
        search: "beam", "selection" (a beam ranked by a fitted scorer) or "every item".
        beam_width: of the search.
        users: validation and test users at most, where fewer than usual.
    """

    dataset: str
    name: str
    group: str
    label: str
    settings: tuple[str, ...] = ()
    against: str = "base"
    model: str = ""
    search: str = "beam"
    beam_width: int = 50
    users: int = max(USERS.values())

    def overrides(self, seed: int, data: Path, quick: bool) -> list[str]:
        """What the row changes in the dataset's config; `settings` last, so that they may change the budget too."""
        chosen = [
            *COMMON,
            *BUDGET[self.dataset],
            f"name={self.name}",
            f"seed={seed}",
            f"tokenizer.quantizer.seed={seed}",
        ]
        chosen += self.settings
        return [*chosen, *(QUICK if quick else ()), f"dataset.folder={data / self.dataset}"]


def cell_folder(cells: Path, row: Row, seed: int) -> Path:
    """Where a cell lies."""
    return cells / row.dataset / f"{row.name}-{seed}"


def run_cell(row: Row, trained: Row, seed: int, data: Path, cells: Path, *, quick: bool, keep: bool) -> dict[str, Any]:
    """Measure one cell.

    Args:
        row: what to measure.
        trained: the row that trains its generator; the row itself, or the finished one that `row.model` names.
        keep: whether other rows will measure this row's generator too.
    """
    from onerec.run.config import load_config
    from onerec.run.run import Run
    from onerec.train.runtime import set_threads

    config = load_config(CONFIGS / DATASETS[row.dataset], trained.overrides(seed, data, quick))
    run = Run(config, cell_folder(cells, trained, seed) / "run")
    seconds = {"training": 0.0}
    if row is trained:
        share_ids(run, cells / row.dataset / "ids")
        seconds["training"] = train(run)
    set_threads(config.threads, config.generator.width)
    began = time.process_time()
    most = min(row.users, QUICK_USERS) if quick else row.users
    rows = {part: rows_of(run, part, most) for part in USERS}
    asked = {part: run.cases(part).pick(chosen) for part, chosen in rows.items()}
    lists = search(run, row, rows)
    seconds["lists"] = time.process_time() - began
    folder = cell_folder(cells, row, seed)
    cell = {"row": row.__dict__, "seed": seed, "quick": quick, **origin_of_cell(run), "seconds": seconds}
    cell |= {
        "parameters": parameters_of(run),
        "config": config.model_dump(mode="json", exclude={"dataset", "baselines"}),
    }
    cell |= {"figures": {part: figures_of(run, cases, lists[part]) for part, cases in asked.items()}}
    write_cell(folder, cell, **arrays_of(asked, lists))
    if row is trained and not keep:
        shutil.rmtree(run.folder)
    return cell


def train(run: Any) -> float:
    """Train the run's generator and return the seconds of one core: on a machine that does other work too, those of the clock
    say more about the other work. Attempts that were killed count by their share of the clock's."""
    if run.generator_stage.done:
        return float(run.generator_stage.seconds)
    clock, processor = time.perf_counter(), time.process_time()
    run.train_generator()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return float(processor * max(1.0, run.generator_stage.seconds / clock))


def share_ids(run: Any, shared: Path) -> None:
    """Put the run's semantic IDs and item vectors in its place, made only if no cell with the same recipe made them."""
    from onerec.run.run import Run

    first = Run(run.config, shared / run.ids_stage.key[:16])
    if not first.ids_stage.done:
        # Under a name of its own first: should two processes make the same IDs, the first to finish provides them.
        mine = Run(run.config, shared / f"{first.folder.name}.{os.getpid()}")
        mine.tokenize()
        try:
            mine.folder.rename(first.folder)
        except OSError:
            shutil.rmtree(mine.folder)
    if not run.ids_stage.done:
        shutil.copytree(first.ids_stage.folder, run.ids_stage.folder, dirs_exist_ok=True)


def rows_of(run: Any, part: str, size: int) -> np.ndarray:
    """Numbers of cases spread evenly over those of the usual number, so that fewer are always some of them."""
    from onerec.data.split import even_rows

    usual = even_rows(len(run.cases(part)), USERS[part])
    return usual[even_rows(len(usual), size)]


def search(run: Any, row: Row, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lists of 50 for every part, fewer where the beam is narrower. Validation lists of selection are cross-fitted."""
    from benchmarks.selection import proposed, ranked
    from onerec.evaluate.ranking import LIST_LENGTH

    if row.search == "selection":
        names, parts = proposed(run, rows)
        return dict(zip(("valid", "test"), ranked(parts, names, names), strict=True))
    asked = {part: run.cases(part).pick(chosen) for part, chosen in rows.items()}
    generator, exclude_seen = run.load_generator(), run.config.recommend.exclude_seen
    generator.beam_width = row.beam_width
    if row.search == EVERY_ITEM:
        generator.beam_width, generator.batch_size = len(run.item_ids), 4
    k = min(LIST_LENGTH, generator.beam_width)
    return {
        part: generator.recommend(cases.history_items, cases.history_offsets, k, exclude_seen, run.readings(cases))[0]
        for part, cases in asked.items()
    }


def figures_of(run: Any, cases: Any, items_CK: np.ndarray) -> dict[str, Any]:
    """Means over the cases, and Recall@10 of the cold ones among them (targets that training never shows)."""
    from onerec.evaluate.breakdown import training_counts
    from onerec.evaluate.metrics import case_metrics, coverage, ranks_of

    values = case_metrics(ranks_of(items_CK, cases.target))
    counts = training_counts(run.training[0], len(run.item_ids))
    cold = counts[cases.target] == 0
    figures: dict[str, Any] = {name: float(np.mean(value)) for name, value in values.items()}
    figures |= {"cases": len(cases), "coverage@10": coverage(items_CK, len(counts), 10)}
    return figures | {"cold_cases": int(cold.sum()), "cold_hits@10": float(np.sum(values["recall@10"][cold]))}


def arrays_of(asked: dict[str, Any], lists: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`<part>_ranks` and `<part>_users` for the table."""
    from onerec.evaluate.metrics import ranks_of

    arrays: dict[str, np.ndarray] = {}
    for part, cases in asked.items():
        arrays[f"{part}_ranks"] = ranks_of(lists[part], cases.target).astype(np.int16)
        arrays[f"{part}_users"] = cases.user_index
    return arrays


def parameters_of(run: Any) -> dict[str, int]:
    """Trained parameters of the generator: all, those that one token can use, and those outside of embeddings and item head."""
    from onerec.model.counting import count_parameters

    found = count_parameters(run.load_generator().generator)
    tables = found.parts["embeddings"] + found.parts["item_head"]
    return {"total": found.total, "active": found.active, "layers": found.total - tables}


def ready(row: Row, rows: dict[str, Row], seed: int, cells: Path) -> bool:
    """Whether the generator that a row measures is trained; rows that train their own are always ready."""
    return not row.model or finished(cell_folder(cells, rows[row.model], seed))
