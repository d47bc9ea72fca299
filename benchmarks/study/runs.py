"""Where studies touch the pipeline: configs by dataset, runs in folders of their own, lists, and stages that runs share."""

import argparse
import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.data.windows import Windows
    from onerec.recommenders.generator import GeneratorRecommender
    from onerec.run.config import RunConfig
    from onerec.run.run import Run

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_FILES = {"amazon-beauty": "beauty.yaml", "kuairand-pure": "kuairand.yaml", "movielens-100k": "demo.yaml"}


def data_folder(parser: argparse.ArgumentParser) -> Path:
    """The folder of all datasets; the command line's error where nobody says which it is."""
    data = os.environ.get("ONEREC_DATA")
    if not data:
        parser.error("the environment variable ONEREC_DATA must name the folder that holds the datasets")
    return Path(data)


def config_of(dataset: str, name: str, seed: int, settings: Sequence[str], data: Path) -> "RunConfig":
    """A dataset's shipped config for one core, with a name, a seed and `settings`.

    MovieLens-100K is fetched where `data` does not hold it.
    """
    from onerec.run.config_files import load_config

    chosen = ["threads=1", f"name={name}", f"seed={seed}", f"tokenizer.quantizer.seed={seed}", *settings]
    if (data / dataset).exists() or dataset != "movielens-100k":
        chosen.append(f"dataset.folder={data / dataset}")
    return load_config(CONFIGS / CONFIG_FILES[dataset], chosen)


def one_core(config: "RunConfig") -> None:
    """Let torch compute with as many threads as the config says."""
    from onerec.train.runtime import set_threads

    set_threads(config.threads, config.generator.width)


def lists_of(run: "Run", generator: "GeneratorRecommender", requests: "Requests") -> np.ndarray:
    """Items of each request's list `[C, K]`, as many as all figures need or as the beam is wide."""
    from onerec.evaluate.ranking import LIST_LENGTH

    one_core(run.config)
    length, exclude_seen = min(LIST_LENGTH, generator.beam_width), run.config.recommend.exclude_seen
    return generator.recommend(requests, length, exclude_seen=exclude_seen).items_CK


def training_counts_of(run: "Run") -> np.ndarray:
    """Training events of each item `[N]`."""
    from onerec.evaluate.breakdown import training_counts

    counts_N: np.ndarray = training_counts(run.training[0], len(run.item_ids))
    return counts_N


def case_figures(items_CK: np.ndarray, requests: "Requests", names: Sequence[str]) -> dict[str, np.ndarray]:
    """A sample of lists: `users`, and figures such as `recall@10` of each request."""
    from onerec.evaluate.metrics import case_metrics, ranks_of

    found = case_metrics(ranks_of(items_CK, requests.targets_C))
    return {"users": requests.users_C, **{name: found[name] for name in names}}


def lend(lender: Path, folder: Path, stages: Sequence[str]) -> None:
    """Put finished stages of the lender's run folder into another, as links; those that it has not made are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if (lender / stage).is_dir() and not (folder / stage).exists():
            (folder / stage).symlink_to((lender / stage).resolve(), target_is_directory=True)


def shared_ids(config: "RunConfig", folder: Path) -> "Run":
    """A run below `folder` whose semantic IDs are made: once for equal configs of the tokenizer, while other processes wait."""
    from onerec.run.opening import make_run

    maker = make_run(config, folder)
    maker.folder = folder / maker.key("semantic_ids")[:16]
    maker.folder.mkdir(parents=True, exist_ok=True)
    with (maker.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        maker.make("semantic_ids")
    return maker


def windows_at(windows: "Windows", rows: np.ndarray) -> "Windows":
    """The training windows of these numbers."""
    starts, stops, first_targets = windows.starts[rows], windows.stops[rows], windows.first_targets[rows]
    return replace(windows, starts=starts, stops=stops, first_targets=first_targets)
