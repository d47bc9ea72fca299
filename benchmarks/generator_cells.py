"""One cell of a table about generators: one generator on one dataset's IDs, trained on a counted number of targets.

All cells of a dataset share semantic IDs, training events and validation cases. A finished cell is a folder with `cell.json` and
`losses.npy`, -log p(item) in nats of every validation target; another folder holds the IDs. Nothing is chosen by validation: the
last weights are measured.
"""

import fcntl
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import CONFIGS, claim
from onerec.files import write_file, write_json

# The reports' generator: codes decide, no output vector per item and no loss on whole items. Targets are seen once, so nothing is
# learnt by heart that dropout would have to prevent.
GENERATOR = (
    "threads=1",
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
# Config, and the longest history there is: on KuaiRand all impressions with their outcome, on the others all events.
DATASETS: dict[str, tuple[str, ...]] = {
    "kuairand-pure": (
        "kuairand.yaml",
        "generator.history_length=50",
        "generator.pathways.event_features=[long_view]",
        "generator.pathways.item_features=[]",
        "generator.pathways.user_features=[]",
    ),
    "movielens-100k": ("demo.yaml", "generator.history_length=400"),
    "amazon-beauty": ("beauty.yaml", "generator.history_length=50"),
}
QUICK_IDS = ("tokenizer.quantizer.method=random", "tokenizer.alignment=null")
CASES, QUICK_CASES = 6000, 300
IDS_SEED = 17


@dataclass(frozen=True)
class Cell:
    """A generator to train.

    Attributes:
        dataset: a name of `DATASETS`.
        name: of the cell among those of its dataset.
        settings: overrides of the dataset's config: the generator's sizes, batch size, epochs.
        targets: training targets of one epoch; a random choice of windows that hold about so many.
        seed: of weights, order, dropout and of that choice.
        quick: random IDs and few validation cases, for tests.
        rate_factor: of the learning rate against the rule's.
    """

    dataset: str
    name: str
    settings: tuple[str, ...]
    targets: int
    seed: int
    quick: bool = False
    rate_factor: float = 1.0

    def config(self, data: Path) -> Any:
        """The run config of the cell."""
        from onerec.run.config import load_config

        file, *of_dataset = DATASETS[self.dataset]
        chosen = [*GENERATOR, *of_dataset, *self.settings, f"name={self.name}", f"seed={self.seed}"]
        chosen.append(f"tokenizer.quantizer.seed={IDS_SEED}")
        if (data / self.dataset).exists():
            chosen.append(f"dataset.folder={data / self.dataset}")
        return load_config(CONFIGS / file, [*chosen, *(QUICK_IDS if self.quick else ())])


def run_missing(cells: list[Cell], data: Path, root: Path) -> None:
    """Run every cell that neither is finished nor belongs to another process, into `root / dataset / name`."""
    for cell in cells:
        folder = root / cell.dataset / cell.name
        if claim(folder):
            result = run_cell(cell, data, folder)
            print(
                f"{cell.dataset} {cell.name}: {result['loss']:.4f} nats, {result['seconds']['total']:.0f} s", flush=True
            )


def run_cell(cell: Cell, data: Path, folder: Path) -> dict[str, Any]:
    """Train and measure a cell into `folder`; the model is not kept."""
    import torch

    from onerec.model.counting import count_parameters, size_without_tables
    from onerec.model.generator import Generator
    from onerec.run.provenance import code_version, machine, versions
    from onerec.run.run import Run
    from onerec.train.runtime import set_threads
    from onerec.train.schedule import learning_rate_for
    from onerec.train.trainer import Trainer

    started = time.perf_counter()
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = Run(cell.config(data), folder / "run")
    ids = shared_ids(cell, run, folder.parent / ("ids-quick" if cell.quick else "ids"))
    config = run.config
    set_threads(config.threads, config.generator.width)
    torch.manual_seed(cell.seed)
    vocabulary = run.vocabulary if config.generator.pathways.names_features else None
    model = Generator(config.generator, ids, vocabulary)
    windows = some_windows(run.generator_windows(), cell.targets, cell.seed)
    rate = cell.rate_factor * learning_rate_for(size_without_tables(model))
    # Validation comes once, at the end, and chooses nothing.
    train = config.train.model_copy(update={"validate_every": config.train.epochs, "learning_rate": rate})
    trainer = Trainer(
        model, windows, train, folder / "run", lambda _: {"ndcg@10": 0.0}, seed=cell.seed, label=cell.name
    )
    wall, processor = time.perf_counter(), time.process_time()
    position = trainer.run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    model.cpu().eval()
    losses_C, users_C = held_out_losses(run, model, QUICK_CASES if cell.quick else CASES)
    parameters, flops = count_parameters(model), training_flops(model, windows, config, cell.seed)
    commit, dirty = code_version()
    targets = int(windows.target_counts.sum())
    result = {
        "cell": {**cell.__dict__, "settings": list(cell.settings)},
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "machine": machine(),
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
        "loss": float(losses_C.mean()),
        "cases": len(losses_C),
        "seconds": {"training": wall, "training_processor": processor, "total": time.perf_counter() - started},
    }
    write_file(folder / "losses.npy", lambda path: _save(path, np.stack([users_C.astype(np.float64), losses_C])))
    write_json(folder / "cell.json", result)
    shutil.rmtree(folder / "run")
    return result


def shared_ids(cell: Cell, run: Any, folder: Path) -> Any:
    """The dataset's semantic IDs, made once whatever the cell's seed; other processes wait meanwhile."""
    from onerec.run.run import Run
    from tokenizer.semantic_ids import SemanticIds

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ids").exists():
            maker = Run(run.config.model_copy(update={"seed": IDS_SEED}), folder / "run")
            maker.__dict__["dataset"] = run.dataset  # read and checked already
            maker.tokenize().save(folder / "ids")
            shutil.rmtree(folder / "run")
    return SemanticIds.load(folder / "ids")


def some_windows(windows: Any, targets: int, seed: int) -> Any:
    """A random choice of windows that together hold about so many targets; all of them where there are no more."""
    order = np.random.default_rng([seed, 1]).permutation(len(windows))
    kept = np.sort(order[: int(np.searchsorted(np.cumsum(windows.target_counts[order]), targets, side="left")) + 1])
    return replace(
        windows,
        starts=windows.starts[kept],
        stops=windows.stops[kept],
        first_targets=windows.first_targets[kept],
    )


def training_flops(model: Any, windows: Any, config: Any, seed: int) -> dict[str, int]:
    """Operations of the whole training by part, batch by batch as they were padded: three times the forward pass."""
    from onerec.data.windows import epoch_batches
    from onerec.model.counting import batch_flops

    total: dict[str, int] = {}
    for epoch in range(config.train.epochs):
        for rows in epoch_batches(windows, config.train.batch_size, seed, epoch):
            for part, flops in batch_flops(model, windows.batch(rows)).items():
                total[part] = total.get(part, 0) + 3 * flops
    return total


def held_out_losses(run: Any, model: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    """-log p(item) in nats of validation targets, at most so many and spread evenly, and their users."""
    import torch

    from onerec.model.bound_generator import item_log_probabilities

    cases = run.cases("valid", most)
    losses_C = np.zeros(len(cases))
    for rows, batch in case_batches(run, cases):
        targets_B1 = torch.from_numpy(cases.target[rows].astype(np.int64))[:, None]
        losses_C[rows] = -item_log_probabilities(model, batch, targets_B1)[:, 0].double().numpy()
    return losses_C, cases.user_index


def case_batches(run: Any, cases: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """Numbers of cases and what the generator reads of them."""
    from onerec.data.stream import padded_readings
    from onerec.data.windows import padded_histories

    config, readings = run.config.generator, run.readings(cases)
    if readings is None:
        return padded_histories(cases.history_items, cases.history_offsets, config.history_length, 256)
    return padded_readings(readings, config.history_length, config.pathways.positive_length, 256)


def read_cell(folder: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """A finished cell and its losses `[2, C]` (users, nats), or None."""
    import json

    if not (folder / "cell.json").exists():
        return None
    return json.loads((folder / "cell.json").read_text(encoding="utf-8")), np.load(folder / "losses.npy")


def run_facts(name: str, results: list[dict[str, Any]], seeds: list[int], quick: bool) -> dict[str, Any]:
    """The facts of a table of cells, whichever command ran them; seconds are those of all cells together."""
    import shlex
    import sys

    from onerec.run.provenance import code_version, machine, versions

    commit, dirty = code_version()
    facts = {"name": name, "quick": quick, "commit": commit, "dirty": dirty, "seed": seeds}
    facts |= {"cell_commits": sorted({result["commit"] for result in results})}
    facts |= {"versions": versions(), "machine": machine()}
    facts["seconds"] = sum(result["seconds"]["total"] for result in results)
    facts["command"] = shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    return facts


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
