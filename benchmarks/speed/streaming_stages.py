"""One stage of `benchmarks.streaming`, in a process of its own; prints its figures as the last line, in JSON.

python -m benchmarks.speed.streaming_stages STAGE FOLDER SETTINGS
"""

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.memory import peak
from benchmarks.speed.simulated_log import write_log
from benchmarks.study.runs import CONFIGS

SMALL = {
    "selection": "null",
    "baselines.sasrec": "null",
    "baselines.item_knn": "null",
    "tokenizer.behaviour.alignment": "null",
}


def main() -> int:
    """Run the stage under the limit on private memory, where one is asked for."""
    stage, folder, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    limit = int(settings["limit_gib"] * (1 << 30))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    measured = STAGES[stage](folder, settings)
    print(json.dumps({**measured, "peak_mib": peak()}))
    return 0


def simulate(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write the log and the catalogue."""
    started = time.perf_counter()
    write_log(folder / "data", settings["events"], settings["items"], seed=0)
    size = sum(file.stat().st_size for file in (folder / "data").iterdir())
    return {"seconds": time.perf_counter() - started, "events": settings["events"], "mib_on_disk": size / (1 << 20)}


def read(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Check every event, sort them by user into mapped files, split them."""
    run = _run(folder, settings)
    started = time.perf_counter()
    events = run.dataset.log.height
    checked = time.perf_counter()
    users = run.sequences.user_count
    done = time.perf_counter()
    return {"seconds": done - started, "checking": checked - started, "events": events, "users": users}


def tokenize(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Content and co-occurrence to unique IDs."""
    run = _opened(folder, settings)
    started = time.perf_counter()
    ids = run.tokenize()
    return {"seconds": time.perf_counter() - started, "events": len(run.training[0]), "items": len(ids.item_ids)}


def train(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Optimizer steps, one validation, the model saved; events are targets."""
    run = _opened(folder, settings)
    started = time.perf_counter()
    run.train_generator()
    seconds, stage = time.perf_counter() - started, run.generator_stage.folder
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    steps = [line["targets_per_second"] for line in lines if "targets_per_second" in line]
    facts = json.loads((stage / "training.json").read_text())
    targets = int(run.generator_windows().target_counts.sum())
    rate = len(steps) / sum(1 / one for one in steps)  # of the steps alone, without validation and saving
    return {
        "seconds": seconds,
        "steps": facts["steps"],
        "parameters": facts["parameters"],
        "events": targets,
        "events_per_second": rate,
    }


def train_own(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The same with a vector of its own for every item, on both sides, which every step updates in full."""
    own = {"generator.own_embedding": "true", "generator.item_head": "true"}
    return train(folder, {**settings, "steps": settings["own_steps"], "more": own})


def decode(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Lists of 50 from a beam of 50, items of the history left out; events are what the histories hold."""
    run = _opened(folder, settings)
    cases, recommender = run.cases("test", settings["users"]), run.load_generator()
    started = time.perf_counter()
    items_CK, _ = recommender.recommend(cases.history_items, cases.history_offsets, 50, True)
    seconds = time.perf_counter() - started
    if len(np.unique(items_CK[0])) < 50:
        raise AssertionError("a list is short, or has an item twice")
    return {"seconds": seconds, "events": len(cases.history_items), "users": len(cases)}


def _opened(folder: Path, settings: dict[str, Any]) -> Any:
    """A run whose dataset is checked and whose sequences are there, as every command finds it."""
    run = _run(folder, settings)
    started = time.perf_counter()
    run.sequences  # noqa: B018  # a property that reads
    print(f"opened in {time.perf_counter() - started:.1f} s")
    return run


def _run(folder: Path, settings: dict[str, Any]) -> Any:
    from onerec.run.config import load_config
    from onerec.run.run import Run

    class ShortRun(Run):
        """A run that trains on an even share of its windows, so that one epoch has as many steps as are asked for."""

        def generator_windows(self) -> Any:
            windows = super().generator_windows()
            wanted = settings["steps"] * self.config.train.batch_size
            rows = np.linspace(0, len(windows) - 1, min(wanted, len(windows))).round().astype(np.int64)
            parts = ("starts", "stops", "first_targets")
            return replace(windows, **{part: getattr(windows, part)[rows] for part in parts})

    overrides = {**SMALL, **settings["config"], **settings.get("more", {}), "dataset.folder": folder / "data"}
    config = load_config(CONFIGS / "own.yaml", [f"{key}={value}" for key, value in overrides.items()])
    return ShortRun(config, folder / "run")


STAGES = {work.__name__: work for work in (simulate, read, tokenize, train_own, train, decode)}

if __name__ == "__main__":
    sys.exit(main())
