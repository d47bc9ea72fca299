"""The recommenders that a run measures, and the lists that it keeps of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onerec.data.requests import Requests
from onerec.recommenders.recommender import Recommender
from onerec.run.artefact import Artefact, key_of

EVALUATED_PARTS = ("valid", "test")
P_SCORE = "p_score@10"
JUDGED = 10  # items of a list that a judge looks at


@dataclass(frozen=True)
class Model:
    """A recommender of a run.

    Attributes:
        name: in `results.json`.
        label, description: for readers.
        own: whether it is one of ours; the others are what ours are compared with.
        key: everything that its lists depend on, as plain JSON values.
        load: loads or fits the recommender.
        facts: gives what `results.json` holds about it besides figures, such as "parameters" and "train_seconds".
        lists_folder: the folder of its lists, below the run's folder.
    """

    name: str
    label: str
    description: str
    own: bool
    key: Any
    load: Callable[[], Recommender]
    facts: Callable[[], dict[str, Any]]
    lists_folder: Path


@dataclass(frozen=True)
class Judge:
    """Judges lists, and had no part in making them.

    Attributes:
        name: for readers.
        score: takes requests and the items `[C, K]` of their lists; returns the mean score of the first items, float64 `[C]`.
    """

    name: str
    score: Callable[[Requests, np.ndarray], np.ndarray]


def lists_artefact(model: Model, folder: Path, exclude_seen: bool, seed: int) -> Artefact:
    """The place of a model's lists; `folder` is the run's."""
    return Artefact(folder / model.lists_folder, key_of("lists", model.key, exclude_seen, seed))


def make_lists(model: Model, requests: dict[str, Requests], k: int, *, exclude_seen: bool) -> dict[str, np.ndarray]:
    """A model's lists for the requests of each part.

    Returns:
        items `[C, k]` by part, their scores as `<part>_scores`, `fit_seconds` for loading and fitting the recommender, and
        `seconds` for making the lists.
    """
    started = time.perf_counter()
    recommender = model.load()
    fitted = time.perf_counter()
    made: dict[str, np.ndarray] = {}
    for part, asked in requests.items():
        lists = recommender.recommend(asked, k, exclude_seen=exclude_seen)
        made[part], made[f"{part}_scores"] = lists.items_CK, lists.scores_CK
    made["fit_seconds"] = np.array(fitted - started)
    made["seconds"] = np.array(time.perf_counter() - fitted)
    return made
