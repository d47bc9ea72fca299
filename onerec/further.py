"""What results hold beside a run's own models: recommenders that later stages made from the run, handed over as plain values.

A run knows nothing of reward models and alignment (`rl` is built upon `onerec`); who does hands in what to measure.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onerec.artefacts import Stage
from onerec.data.split import Cases
from onerec.evaluate.ranking import LIST_LENGTH
from onerec.run_data import RunData
from onerec.train.runtime import set_threads

EVALUATED_PARTS = ("valid", "test")
P_SCORE = "p_score@10"
JUDGED = 10  # items of a list that a judge looks at

MakeLists = Callable[[Cases, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class FurtherModel:
    """A recommender beside a run's own.

    Attributes:
        label, description: for readers.
        facts: what `results.json` says of it beside its figures: "parameters", "train_seconds" and whatever else.
        lists_stage: where its lists are kept.
        load: gives what makes lists of k items for cases: items `[C, k]`, -1 where there are no more, and scores, best first.
    """

    label: str
    description: str
    facts: Mapping[str, Any]
    lists_stage: Stage
    load: Callable[[], MakeLists]


@dataclass(frozen=True)
class Judge:
    """Who judges lists, and had no part in making them.

    Attributes:
        name: for readers.
        score: the mean score of the first items of each case's list, float64 `[C]`, for cases and items `[C, K]`.
    """

    name: str
    score: Callable[[Cases, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Further:
    """All that is measured beside a run's own models; empty, nothing is.

    Attributes:
        models: by the name that `results.json` gives them.
        judge: of the lists of all models, the run's own included.
        reward_models: figures of reward models by the name of their folder.
        stages: whose seconds count as the run's.
        notes: what a reader should know before trusting the figures.
    """

    models: Mapping[str, FurtherModel] = field(default_factory=dict)
    judge: Judge | None = None
    reward_models: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
    notes: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all stages and of making the lists, each counted once."""
        stages = [*self.stages, *(model.lists_stage for model in self.models.values())]
        return sum(stage.seconds for stage in {stage.folder: stage for stage in stages}.values())

    def lists(self, run: RunData) -> dict[str, dict[str, np.ndarray]]:
        """The top lists of every model by its name; see `kept_lists`."""
        return {name: kept_lists(run, one.lists_stage, one.label, one.load) for name, one in self.models.items()}


def kept_lists(run: RunData, stage: Stage, label: str, load: Callable[[], MakeLists]) -> dict[str, np.ndarray]:
    """A recommender's top lists for validation and test cases, made once and kept in the stage's folder.

    Args:
        run: whose cases are asked.
        stage: where lists are kept.
        label: what to call the recommender at the terminal.
        load: see `FurtherModel`; called only where there are no lists yet.

    Returns:
        `valid` and `test` items `[C, 50]`, `valid_scores` and `test_scores`, `fit_seconds` that loading took, with whatever
        had to be fitted, and `seconds` that making the lists took.
    """
    if not stage.done:
        stage.begin()
        run.say(f"{label}: recommending to validation and test users")
        set_threads(run.config.threads, run.config.generator.width)
        started = time.perf_counter()
        make = load()
        fitted = time.perf_counter()
        made: dict[str, np.ndarray] = {}
        for part in EVALUATED_PARTS:
            made[part], made[f"{part}_scores"] = make(run.cases(part), LIST_LENGTH)
        made["fit_seconds"] = np.array(fitted - started)
        made["seconds"] = np.array(time.perf_counter() - fitted)
        np.savez(stage.folder / "lists.npz", **made)  # type: ignore[arg-type]
        stage.finish()
    with np.load(stage.folder / "lists.npz") as stored:
        return dict(stored)
