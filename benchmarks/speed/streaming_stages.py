"""One stage of `benchmarks.streaming`, in a process of its own; prints its figures as the last line, in JSON.

python -m benchmarks.speed.streaming_stages STAGE FOLDER SETTINGS
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.memory import peak
from benchmarks.speed.simulated_log import write_log
from benchmarks.study.runs import CONFIGS, windows_at

if TYPE_CHECKING:
    from onerec.data.windows import Windows
    from onerec.run.run import Run

SMALL = {
    "selection": "null",
    "baselines.sasrec": "null",
    "baselines.item_knn": "null",
    "tokenizer.alignment": "null",
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
    run.make("semantic_ids")
    return {"seconds": time.perf_counter() - started, "events": len(run.training[0]), "items": len(run.item_ids)}


def train(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Optimizer steps, one validation, the model saved; events are targets."""
    from onerec.run.stages.generator import training_facts

    run = _opened(folder, settings)
    started = time.perf_counter()
    made = run.make("generator")
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    steps = [line["targets_per_second"] for line in lines if "targets_per_second" in line]
    facts = training_facts(made)
    targets = int(_even_windows(run, settings["steps"]).target_counts.sum())
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
    from onerec.run.stages.generator import load_generator

    run = _opened(folder, settings)
    requests, generator = run.requests("test", settings["users"]), load_generator(run)
    started = time.perf_counter()
    items_CK = generator.recommend(requests, 50, exclude_seen=True).items_CK
    seconds = time.perf_counter() - started
    if len(np.unique(items_CK[0])) < 50:
        raise AssertionError("a list is short, or has an item twice")
    return {"seconds": seconds, "events": len(requests.history_items), "users": len(requests)}


def _opened(folder: Path, settings: dict[str, Any]) -> "Run":
    """A run whose dataset is checked and whose sequences are there, as every command finds it."""
    run = _run(folder, settings)
    started = time.perf_counter()
    run.sequences  # noqa: B018  # a property that reads
    print(f"opened in {time.perf_counter() - started:.1f} s")
    return run


def _run(folder: Path, settings: dict[str, Any]) -> "Run":
    """A run whose generator trains for as many steps as are asked for."""
    import torch

    from onerec.model.generator import Generator
    from onerec.run.config_files import load_config
    from onerec.run.opening import stages_of
    from onerec.run.run import Facts, Run
    from onerec.run.stages.generator import GeneratorStage, train_generator
    from onerec.run.stages.semantic_ids import semantic_ids
    from onerec.train.runtime import set_threads

    class ShortTraining(GeneratorStage):
        """The generator's stage with one epoch of few windows."""

        def make(self, run: Run, folder: Path) -> Facts:
            config, windows = run.config, _even_windows(run, settings["steps"])
            set_threads(config.threads, config.generator.width)
            torch.manual_seed(config.seed)
            model = Generator(config.generator, semantic_ids(run))
            return train_generator(run, folder, model, "onerec", config.train, windows)

    overrides = {**SMALL, **settings["config"], **settings.get("more", {}), "dataset.folder": folder / "data"}
    config = load_config(CONFIGS / "own.yaml", [f"{key}={value}" for key, value in overrides.items()])
    return Run(config, folder / "run", {**stages_of(config), GeneratorStage.name: ShortTraining()})


def _even_windows(run: "Run", steps: int) -> "Windows":
    """An even share of the training windows, so that one epoch has so many steps."""
    from onerec.run.stages.generator import generator_windows

    windows, wanted = generator_windows(run), steps * run.config.train.batch_size
    return windows_at(windows, np.linspace(0, len(windows) - 1, min(wanted, len(windows))).round().astype(np.int64))


STAGES = {work.__name__: work for work in (simulate, read, tokenize, train_own, train, decode)}

if __name__ == "__main__":
    sys.exit(main())
