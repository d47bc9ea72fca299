"""A cell of a study of generators: one generator on one dataset's semantic IDs, trained on a counted number of targets.

All cells of a dataset share semantic IDs, training events and validation cases. The sample `valid` has the `loss` of each case:
-log p(item) in nats. Validation chooses nothing: the last weights are measured.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import config_of, one_core, shared_ids, windows_at
from benchmarks.study.study import Study

if TYPE_CHECKING:
    from onerec.data.windows import Windows
    from onerec.model.generator import Generator
    from onerec.run.config import RunConfig
    from onerec.run.run import Run

# The reports' generator: codes decide, without output vectors of items and without a loss on whole items. Every target is seen
# once, so nothing is learnt by heart and dropout has nothing to prevent.
GENERATOR = (
    "generator.item_head=false",
    "generator.item_loss=0",
    "generator.lookahead=false",
    "generator.dropout=0",
    "generator.own_dropout=0",
    "train.average_decay=0",
    "train.checkpoint_every=1000000",
    "train.warmup_steps=100",
    "baselines.sasrec=null",
)
# The longest histories there are: all impressions with their outcome on KuaiRand, all events elsewhere.
DATASETS: dict[str, tuple[str, ...]] = {
    "kuairand-pure": (
        "generator.history_length=50",
        "generator.pathways.event_features=[long_view]",
        "generator.pathways.item_features=[]",
        "generator.pathways.user_features=[]",
    ),
    "movielens-100k": ("generator.history_length=400",),
    "amazon-beauty": ("generator.history_length=50",),
}
QUICK_IDS = ("tokenizer.quantizer.method=random", "tokenizer.alignment=null")
CASES, QUICK_CASES = 6000, 300
IDS_SEED = 17


@dataclass(frozen=True)
class GeneratorRow(Row):
    """A generator to train.

    Attributes:
        targets: training targets of an epoch; a random choice of windows holds about as many.
        rate_factor: of the learning rate against that of the rule.
    """

    targets: int = 0
    rate_factor: float = 1.0


def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Train a generator and measure its validation losses; the model is not kept."""
    import torch

    from onerec.model.counting import count_parameters, size_without_tables
    from onerec.model.generator import Generator
    from onerec.run.opening import make_run
    from onerec.run.stages.generator import generator_windows
    from onerec.run.stages.semantic_ids import semantic_ids
    from onerec.train.schedule import learning_rate_for
    from onerec.train.trainer import Trainer

    started, row = time.perf_counter(), cell.row
    assert isinstance(row, GeneratorRow)
    chosen = [*GENERATOR, *DATASETS[row.dataset], *row.settings, f"tokenizer.quantizer.seed={IDS_SEED}"]
    config = config_of(row.dataset, row.name, cell.seed, [*chosen, *(QUICK_IDS if study.quick else ())], study.data)
    shutil.rmtree(cell.folder / "run", ignore_errors=True)
    run = make_run(config, cell.folder / "run")
    # Whatever the cell's seed is, its IDs are those of one seed.
    ids = semantic_ids(shared_ids(config.model_copy(update={"seed": IDS_SEED}), study.cells / row.dataset / "ids"))
    one_core(config)
    torch.manual_seed(cell.seed)
    vocabulary = run.reading.vocabulary if config.generator.pathways.names_features else None
    model = Generator(config.generator, ids, vocabulary)
    windows = some_windows(generator_windows(run), row.targets, cell.seed)
    rate = row.rate_factor * learning_rate_for(size_without_tables(model))
    train = config.train.model_copy(update={"validate_every": config.train.epochs, "learning_rate": rate})
    trainer = Trainer(model, windows, train, run.folder, lambda _: {"ndcg@10": 0.0}, seed=cell.seed, label=row.name)
    clock, processor = time.perf_counter(), time.process_time()
    position = trainer.run()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    model.cpu().eval()
    sample = held_out_losses(run, model, QUICK_CASES if study.quick else CASES)
    parameters, flops = count_parameters(model), training_flops(model, windows, config, cell.seed)
    targets, loss = int(windows.target_counts.sum()), float(sample["loss"].mean())
    facts = {
        "dataset_sha256": run.dataset.sha256,
        "generator": config.generator.model_dump(mode="json"),
        "train": train.model_dump(),
        "learning_rate": rate,
        "parameters": {**parameters.parts, "total": parameters.total, "without_tables": size_without_tables(model)},
        "windows": len(windows),
        "mean_history": float((windows.stops - windows.starts).mean()),
        "targets": targets,
        "targets_seen": targets * train.epochs,
        "steps": position.step,
        "training_flops": flops,
        "training_flops_total": sum(flops.values()),
        "loss": loss,
        "cases": len(sample["loss"]),
        "headline": f"{loss:.4f} nats",
        "seconds": {
            "training": clock,
            "training_processor": processor,
            "other": time.perf_counter() - started - clock,
        },
    }
    shutil.rmtree(run.folder)
    return facts, {"valid": sample}


def some_windows(windows: "Windows", targets: int, seed: int) -> "Windows":
    """A random choice of windows that together hold about so many targets; all of them where there are no more."""
    order = np.random.default_rng([seed, 1]).permutation(len(windows))
    count = int(np.searchsorted(np.cumsum(windows.target_counts[order]), targets, side="left")) + 1
    return windows_at(windows, np.sort(order[:count]))


def training_flops(model: "Generator", windows: "Windows", config: "RunConfig", seed: int) -> dict[str, int]:
    """Operations of the whole training by part: three times the forward pass of every batch, as it was padded."""
    from onerec.data.windows import epoch_batches
    from onerec.model.counting import batch_flops

    total: dict[str, int] = {}
    for epoch in range(config.train.epochs):
        for rows in epoch_batches(windows, config.train.batch_size, seed, epoch):
            for part, flops in batch_flops(model, windows.batch(rows)).items():
                total[part] = total.get(part, 0) + 3 * flops
    return total


def held_out_losses(run: "Run", model: "Generator", most: int) -> dict[str, np.ndarray]:
    """The sample of validation targets, at most so many and spread evenly: `users`, and their `loss` in nats."""
    import torch

    from onerec.model.bound_generator import item_log_probabilities

    requests, config = run.requests("valid", most), model.config
    losses_C = np.zeros(len(requests))
    for rows, batch in requests.batches(config.history_length, config.pathways.positive_length, 256):
        targets_B1 = torch.from_numpy(requests.targets_C[rows].astype(np.int64))[:, None]
        losses_C[rows] = -item_log_probabilities(model, batch, targets_B1)[:, 0].double().numpy()
    return {"users": requests.users_C, "loss": losses_C}
