"""The recommenders that a run measures, and the lists that are kept of each."""

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
        key: what its lists depend on, plain JSON values.
        load: gives the recommender, loaded or fitted.
        facts: gives what `results.json` says of it beside its figures: "parameters", "train_seconds" and whatever else.
        lists_folder: where its lists are kept, below the run's folder.
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
    """Judges lists that it had no part in making.

    `score` gives the mean score of the first items of each request's list, float64 `[C]`, for requests and items `[C, K]`.
    """

    name: str
    score: Callable[[Requests, np.ndarray], np.ndarray]


def lists_artefact(model: Model, folder: Path, exclude_seen: bool, seed: int) -> Artefact:
    """Where a model's lists are kept; `folder` is the run's."""
    return Artefact(folder / model.lists_folder, key_of("lists", model.key, exclude_seen, seed))


def make_lists(model: Model, requests: dict[str, Requests], k: int, *, exclude_seen: bool) -> dict[str, np.ndarray]:
    """A model's lists for the requests of each part.

    Returns:
        items `[C, k]` by part, their scores as `<part>_scores`, `fit_seconds` that loading took, with whatever had to be fitted,
        and `seconds` that making the lists took.
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
