"""A cell of the downstream table: item vectors -> semantic IDs -> a small generator -> recall on test.

Cells of a dataset differ in their IDs alone: generator, optimizer steps and users are the same. The sample is `test`.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.semantic_ids.item_vectors import fitted_vectors
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import case_figures, config_of, lists_of, training_counts_of
from benchmarks.study.study import Study

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.run.run import Run
    from tokenizer.semantic_ids import SemanticIds

# Its ID alone tells the generator which item an item is: no own embedding, no item head.
CODES_ONLY = ("generator.own_embedding=false", "generator.item_head=false")
BUDGET = (
    "generator.history_length=20",
    "train.learning_rate=0.003",
    "train.average_decay=0.998",
    "recommend.beam_width=50",
    "baselines.sasrec=null",
)
DATASETS: dict[str, tuple[str, ...]] = {
    # Every position of a window is a target: less recall than what ships, in two thirds of the time.
    "amazon-beauty": ("train.epochs=3", "train.validate_every=3", "generator.context=causal", "train.batch_size=64"),
    "kuairand-pure": ("train.epochs=2", "train.validate_every=2"),
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
METRICS = ("recall@10", "ndcg@10", "recall@50")


@dataclass(frozen=True)
class DownstreamRow(Row):
    """What the IDs are made of, by which quantizer, made unique in which way; and whether the generator reads codes alone."""

    vectors: str = "content"
    method: str = "rq_kmeans"
    unique: str = "nearest_free"
    codes_only: bool = True


def settings_of(row: DownstreamRow, quick: bool) -> list[str]:
    """What changes in the config of the dataset."""
    chosen = [*BUDGET, *DATASETS[row.dataset], *VECTORS[row.vectors], *(CODES_ONLY if row.codes_only else ())]
    chosen += [f"tokenizer.quantizer.method={row.method}", f"tokenizer.quantizer.unique={row.unique}"]
    return [*chosen, *(QUICK if quick else ()), *row.settings]


def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Make the IDs, train the generator, and measure its lists; models are not kept."""
    from onerec.data.split import held_out_pairs
    from onerec.run.opening import make_run
    from onerec.run.stages.generator import load_generator
    from tokenizer.quality.neighbours import pair_hit_rate

    started, row = time.perf_counter(), cell.row
    assert isinstance(row, DownstreamRow)
    config = config_of(row.dataset, row.name, cell.seed, settings_of(row, study.quick), study.data)
    run = make_run(config, cell.folder / "run")
    path = study.cells / "vectors" / f"{row.dataset}-{row.vectors.replace(' ', '_')}-{cell.seed}.npz"
    vectors_ND, behaviour_ND = fitted_vectors(path, run.dataset.item_table, run.training, config.tokenizer, cell.seed)
    fitted = time.perf_counter()
    ids = tokenize(run, row, vectors_ND, behaviour_ND)
    tokenized = time.perf_counter()
    run.make("generator")
    trained = time.perf_counter()
    requests = run.requests("test", QUICK_USERS if study.quick else None)
    items_CK = lists_of(run, load_generator(run), requests)
    test = test_figures(run, ids, requests, items_CK)
    facts = {
        "dataset_sha256": run.dataset.sha256,
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "generator": config.generator.model_dump(),
        "train": config.train.model_dump(),
        "headline": f"Recall@10 {test['recall@10']['value']:.4f}",
        "valid": validation_of(run),
        "test": test,
        "quality": ids.quality,
        "pair_hit_rate": {str(k): pair_hit_rate(vectors_ND, held_out_pairs(run.sequences), k) for k in (10, 50)},
        "seconds": {
            "vectors": fitted - started,
            "ids": tokenized - fitted,
            "training": trained - tokenized,
            "measuring": time.perf_counter() - trained,
        },
    }
    shutil.rmtree(run.folder)
    return facts, {"test": case_figures(items_CK, requests, METRICS)}


def tokenize(run: "Run", row: DownstreamRow, vectors_ND: np.ndarray, behaviour_ND: np.ndarray) -> "SemanticIds":
    """The row's semantic IDs, put where the run looks for them."""
    from onerec.data.split import held_out_pairs
    from onerec.run.stages.semantic_ids import IDS_FOLDER
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
    artefact = run.artefact("semantic_ids")
    ids.save(artefact.begin() / IDS_FOLDER)
    artefact.finish(time.perf_counter() - started)
    return ids


def test_figures(run: "Run", ids: "SemanticIds", requests: "Requests", items_CK: np.ndarray) -> dict[str, Any]:
    """All figures of the lists with intervals over users, those on the level of IDs among them."""
    from onerec.evaluate.ranking import Measure

    _, groups = np.unique(ids.quantizer_codes_NQ, axis=0, return_inverse=True)
    options = (run.config.evaluate.bootstrap_samples, run.config.seed)
    return Measure(requests, training_counts_of(run), groups.ravel(), *options).figures(items_CK, id_level=True)


def validation_of(run: "Run") -> dict[str, float]:
    """NDCG@10 and Recall@10 on the sample of validation users that training looked at, best over its epochs."""
    table = pl.read_ndjson(run.artefact("generator").folder / "metrics.jsonl", infer_schema_length=None)
    best = table.filter(pl.col("valid/ndcg@10").is_not_null()).sort("valid/ndcg@10").tail(1).to_dicts()[0]
    return {name: float(best[f"valid/{name}"]) for name in ("ndcg@10", "recall@10")}
