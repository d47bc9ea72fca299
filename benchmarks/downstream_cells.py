"""One cell of the downstream table: item vectors -> semantic IDs -> a small generator -> recall on test.

Everything but the IDs is the same for all cells of a dataset: generator, optimizer steps, users. A finished cell is a folder with
`cell.json` and `ranks.npy` (the target's rank for every test user, 0 beyond 50), from which the table is made.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.cells import CONFIGS, origin_of_cell, write_cell
from onerec.files import write_file

# Nothing but its ID tells the generator which item an item is: no own embedding, no item head.
CODES_ONLY = ("generator.own_embedding=false", "generator.item_head=false")
BUDGET = (
    "threads=1",
    "generator.history_length=20",
    "train.learning_rate=0.003",
    "train.average_decay=0.998",
    "recommend.beam_width=50",
    "baselines.sasrec=null",
)
DATASETS: dict[str, tuple[str, ...]] = {
    # Every position of a window is a target: less recall than what ships, in two thirds of the time.
    "amazon-beauty": (
        "beauty.yaml",
        "train.epochs=3",
        "train.validate_every=3",
        "generator.context=causal",
        "train.batch_size=64",
    ),
    "kuairand-pure": ("kuairand.yaml", "train.epochs=2", "train.validate_every=2"),
}
QUICK = (
    "train.epochs=1",
    "train.validate_every=1",
    "train.batch_size=512",
    "tokenizer.quantizer.rq_vae.steps=50",
    "evaluate.validation_users=200",
)
QUICK_USERS = 500  # of test, spread evenly
VECTORS: dict[str, tuple[str, ...]] = {
    "content": ("tokenizer.alignment=null", "tokenizer.collaborative.weight=0"),
    "joined": ("tokenizer.alignment=null", "tokenizer.collaborative.weight=1"),
    "aligned": ("tokenizer.alignment={}", "tokenizer.collaborative.weight=0"),
    "aligned and joined": ("tokenizer.alignment={}", "tokenizer.collaborative.weight=1"),
}


@dataclass(frozen=True)
class Row:
    """A row of the table: what the IDs are made of, by which quantizer, made unique in which way."""

    dataset: str
    vectors: str
    method: str
    unique: str = "nearest_free"
    settings: tuple[str, ...] = ()
    label: str = ""
    codes_only: bool = True

    @property
    def name(self) -> str:
        parts = [self.label or self.method, self.vectors, self.unique, "" if self.codes_only else "whole generator"]
        return "-".join(part.replace(" ", "_") for part in parts if part and part != "nearest_free")

    def overrides(self, seed: int, data: Path, quick: bool) -> list[str]:
        """What the cell changes in the dataset's config."""
        _, *budget = DATASETS[self.dataset]
        chosen = [*BUDGET, *budget, *VECTORS[self.vectors], *(CODES_ONLY if self.codes_only else ())]
        chosen += [f"name={self.name}", f"seed={seed}", f"tokenizer.quantizer.seed={seed}"]
        chosen += [f"tokenizer.quantizer.method={self.method}", f"tokenizer.quantizer.unique={self.unique}"]
        if quick:
            chosen += QUICK
        return [*chosen, *self.settings, f"dataset.folder={data / self.dataset}"]


def run_cell(row: Row, seed: int, data: Path, folder: Path, quick: bool = False) -> dict[str, Any]:
    """Measure one cell into `folder`, or read it from there if it is finished; models are not kept."""
    from onerec.data.split import held_out_pairs
    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.run.config import load_config
    from onerec.run.run import Run
    from tokenizer.quality.neighbours import pair_hit_rate

    started = time.perf_counter()
    config = load_config(CONFIGS / DATASETS[row.dataset][0], row.overrides(seed, data, quick))
    run = Run(config, folder / "run")
    vectors_ND, behaviour_ND = vectors_of(run, row, folder.parent)
    ids, tokenizing = tokenize(run, row, vectors_ND, behaviour_ND)
    vectors_seconds = time.perf_counter() - started - tokenizing
    run.train_generator()
    training = time.perf_counter() - started - tokenizing - vectors_seconds
    cases, recommender = test_cases(run, quick), run.load_generator()
    asked = (cases.history_items, cases.history_offsets, LIST_LENGTH, True)
    items_CK, _ = recommender.recommend(*asked, run.readings(cases))
    cell = {
        "row": {**row.__dict__, "name": row.name},
        "seed": seed,
        "quick": quick,
        **origin_of_cell(run),
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "generator": config.generator.model_dump(),
        "train": config.train.model_dump(),
        "seconds": {"vectors": vectors_seconds, "ids": tokenizing, "training": training},
        "valid": validation_of(run),
        "quality": ids.quality,
        "pair_hit_rate": {str(k): pair_hit_rate(vectors_ND, held_out_pairs(run.sequences), k) for k in (10, 50)},
    }
    cell["test"], ranks_C = figures_of(run, ids, cases, items_CK)
    cell["seconds"]["total"] = time.perf_counter() - started
    write_cell(folder, cell, ranks=ranks_C)
    shutil.rmtree(folder / "run")
    return cell


def vectors_of(run: Any, row: Row, cells: Path) -> tuple[np.ndarray, np.ndarray]:
    """Item vectors of a row's kind, and vectors of behaviour; fitted once per kind and seed, then kept beside the cells."""
    from tokenizer.item_encoder import ItemEncoder

    path = cells.parent / "vectors" / f"{row.dataset}-{row.vectors.replace(' ', '_')}-{run.config.seed}.npz"
    if not path.exists():
        encoder = ItemEncoder().fit(run.dataset.item_table, run.training, run.config.tokenizer, run.config.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda temporary: _save_pair(temporary, encoder.vectors_ND, encoder.behaviour_ND))
    with np.load(path) as stored:
        return stored["vectors"], stored["behaviour"]


def tokenize(run: Any, row: Row, vectors_ND: np.ndarray, behaviour_ND: np.ndarray) -> tuple[Any, float]:
    """The row's semantic IDs, put where the run expects them, and the seconds it took to make them."""
    from onerec.data.split import held_out_pairs
    from tokenizer.tokenize import tokenize_items

    started = time.perf_counter()
    ids = tokenize_items(
        vectors_ND,
        run.item_ids,
        run.config.tokenizer.quantizer,
        behaviour_ND=behaviour_ND,
        neighbours_P2=held_out_pairs(run.sequences),
        source={"vectors": row.vectors},
    )
    seconds = time.perf_counter() - started
    stage = run.ids_stage
    stage.begin()
    ids.save(stage.folder / "ids")
    stage.finish(seconds)
    return ids, seconds


def test_cases(run: Any, quick: bool) -> Any:
    """All test cases, or a few spread evenly."""

    return run.cases("test", QUICK_USERS if quick else None)


def figures_of(run: Any, ids: Any, cases: Any, items_CK: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Test figures with intervals over users, and the rank of every test target."""
    from onerec.evaluate.breakdown import training_counts
    from onerec.evaluate.metrics import ranks_of
    from onerec.evaluate.ranking import Measure

    _, groups = np.unique(ids.quantizer_codes_NQ, axis=0, return_inverse=True)
    counts = training_counts(run.training[0], len(run.item_ids))
    measure = Measure(cases, counts, groups.ravel(), run.config.evaluate.bootstrap_samples, run.config.seed)
    ranks_C = ranks_of(items_CK, cases.target).astype(np.int16)
    return measure.figures(items_CK, id_level=True), ranks_C


def validation_of(run: Any) -> dict[str, float]:
    """NDCG@10 and Recall@10 on the sample of validation users that training looked at, best over its epochs."""
    table = pl.read_ndjson(run.generator_stage.folder / "metrics.jsonl", infer_schema_length=None)
    best = table.filter(pl.col("valid/ndcg@10").is_not_null()).sort("valid/ndcg@10").tail(1).to_dicts()[0]
    return {name: float(best[f"valid/{name}"]) for name in ("ndcg@10", "recall@10")}


def _save_pair(path: Path, vectors_ND: np.ndarray, behaviour_ND: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, vectors=vectors_ND, behaviour=behaviour_ND)
