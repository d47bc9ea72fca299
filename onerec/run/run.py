"""A run: a config, a folder and a dictionary of stages. Each stage leaves an artefact and is skipped when it is there.

A run knows no stage and no model by name. `onerec.run.opening` hands in the stages of this package and those of plugins.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from accelerate import PartialState
from rich.console import Console

from onerec.data.checked import read_checked
from onerec.data.contract import Dataset
from onerec.data.features import feature_names
from onerec.data.requests import Requests, evaluation_requests
from onerec.data.sequence_files import open_sequences
from onerec.data.sources.movielens import fetch_movielens_100k
from onerec.data.split import Sequences
from onerec.errors import UserError
from onerec.files import write_json
from onerec.run.artefact import Artefact, key_of
from onerec.run.config import RunConfig
from onerec.run.models import Model
from onerec.run.reading import Reading
from onerec.train.runtime import compute_on_cpu

Facts = dict[str, Any]
TRAINING_FILE = "training.json"  # a stage's facts, beside what it made
CHECKPOINT_FILE = "checkpoint.pt"
DATASET_FILE = "dataset.json"  # which files of the dataset were checked, and their hash


class Stage:
    """A step of a run.

    Attributes:
        name: also the folder below the run's in which its artefact lies.
        kind: first part of the key; the same for stages that differ in folder alone.
        needs: names of the stages whose keys are part of its own; they are made first.
        after: names of stages that are made first as well, and whose keys say nothing that its recipe does not.
        processes: "first", one process makes it while the others wait; "all" work on it together; "main", the main process makes
            it without the others.
        stored: whether it leaves an artefact. A stage that leaves none only brings models.
    """

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    processes: ClassVar[Literal["first", "all", "main"]] = "main"
    stored: ClassVar[bool] = True

    def asked(self, run: "Run") -> bool:
        """Whether `onerec run` makes it."""
        return True

    def check(self, run: "Run") -> None:
        """Refuse what would fail after hours of work. Raises UserError."""

    def recipe(self, run: "Run") -> tuple[Any, ...]:
        """What the artefact depends on beside `needs`, plain JSON values: together they make its key."""
        raise NotImplementedError

    def make(self, run: "Run", folder: Path) -> Facts:
        """Fill `folder`, which may hold an unfinished attempt with the same key.

        Returns:
            what a reader should know of the artefact, plain JSON values; empty for nothing. "train_seconds" counts all attempts.
        """
        raise NotImplementedError

    def models(self, run: "Run") -> Iterable[Model]:
        """Recommenders that the artefact makes, to be measured beside all others."""
        return ()

    def notes(self, run: "Run") -> Iterable[str]:
        """What a reader should know before trusting the figures."""
        return ()

    def artefact(self, run: "Run") -> Artefact:
        """Where the artefact lies, made or not."""
        return Artefact(run.folder / self.name, run.key(self.name))


@dataclass
class Run:
    """A config, a folder and a dictionary of stages.

    Args:
        config: what to do.
        folder: `runs/<name>`.
        stages: by name, in an order in which each comes after those it needs.
        wandb_project: mirror training metrics to Weights & Biases under this project, or None.
        trained_with: the config its models were trained with, where `config` asks for another measurement of them.
    """

    config: RunConfig
    folder: Path
    stages: Mapping[str, Stage]
    wandb_project: str | None = None
    trained_with: RunConfig | None = None
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.time)
    _waited_for: set[str] = field(default_factory=set, init=False)

    # -- stages -------------------------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """The key of a stage: a hash of its recipe and the keys of what it needs."""
        stage = self.stages[name]
        return key_of(stage.kind, *(self.key(need) for need in stage.needs), *stage.recipe(self))

    def artefact(self, name: str) -> Artefact:
        """What a stage leaves behind, made or not."""
        return self.stages[name].artefact(self)

    def make(self, name: str) -> Path:
        """Make a stage and what it needs, or go on where a killed run stopped; what is done is skipped.

        Every process calls this for stages that processes share ("first" and "all").

        Returns:
            the artefact's folder.
        """
        stage, artefact = self.stages[name], self.artefact(name)
        alone = stage.processes == "main"
        if alone and not self.state.is_main_process:
            return artefact.folder
        # Of a stage that one process makes first, the others know that it is done once they have waited for it.
        if artefact.done and (stage.processes != "first" or name in self._waited_for):
            return artefact.folder
        for needed in (*stage.after, *stage.needs):
            self.make(needed)
        if alone:
            self._make(stage, artefact)
            return artefact.folder
        with self.state.main_process_first():
            if stage.processes == "first" and not artefact.done:
                self._make(stage, artefact)
            elif stage.processes == "all" and self.state.is_main_process:
                artefact.begin()
        if stage.processes == "all":
            self._fill(stage, artefact)
            self.state.wait_for_everyone()  # so that no process takes it for unfinished
        self._waited_for.add(name)
        return artefact.folder

    def _make(self, stage: Stage, artefact: Artefact) -> None:
        artefact.begin()
        self._fill(stage, artefact)

    def _fill(self, stage: Stage, artefact: Artefact) -> None:
        try:
            facts = stage.make(self, artefact.folder)
        except UserError:
            if self.state.is_main_process:
                artefact.give_up()
            raise
        if stage.processes == "all" and not self.state.is_main_process:
            return
        if facts:
            write_json(artefact.folder / TRAINING_FILE, facts)
        (artefact.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        artefact.finish(facts.get("train_seconds"))

    def make_all(self, names: Iterable[str] | None = None) -> None:
        """Make the stages that the config asks for, or those of some names.

        Raises:
            UserError: one of them would fail; before any work where that can be told.
        """
        asked = [self.stages[name] for name in names or self.stages if self.stages[name].asked(self)]
        for stage in asked:
            stage.check(self)
        for stage in asked:
            if stage.stored:
                self.make(stage.name)

    def models(self) -> dict[str, Model]:
        """The recommenders of all stages that the config asks for, by name."""
        made = [model for stage in self.stages.values() if stage.asked(self) for model in stage.models(self)]
        return {model.name: model for model in made}

    # -- data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def state(self) -> PartialState:
        """This process among those that `accelerate launch` started."""
        return PartialState(cpu=compute_on_cpu())

    def say(self, text: str) -> None:
        """Tell the person at the terminal, once however many processes there are."""
        if self.state.is_main_process:
            self.console.print(text, markup=False)

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, read and checked; fetched first where the config names a public source and the folder is new."""
        section = self.config.dataset
        with self.state.main_process_first():
            if section.fetch == "movielens-100k" and not (section.folder / "dataset.yaml").exists():
                self.say(f"fetching MovieLens-100K into {section.folder}")
                fetch_movielens_100k(section.folder)
        dataset = read_checked(section.folder, self.folder / DATASET_FILE)
        feature_names(dataset, self.config.generator.pathways)  # refuses unknown names before any work is done
        return dataset

    @property
    def data_key(self) -> str:
        """Identifies the training and evaluation data: the dataset's bytes and how they are split."""
        return key_of(self.dataset.sha256, self.config.dataset.model_dump(exclude={"folder", "fetch"}, mode="json"))

    @cached_property
    def _stored_sequences(self) -> tuple[Sequences, tuple[np.ndarray, np.ndarray]]:
        return open_sequences(self.make("sequences"))

    @property
    def sequences(self) -> Sequences:
        """Every user's events with the part (train, valid, test) each belongs to, mapped into memory."""
        return self._stored_sequences[0]

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Training events as items and offsets: all that tokenizer, generator and baselines ever learn from."""
        return self._stored_sequences[1]

    @property
    def item_ids(self) -> pl.Series:
        """Item ids in the order of the items table, which is the order of item numbers everywhere."""
        return self.dataset.items[self.dataset.spec.items.id]

    @cached_property
    def reading(self) -> Reading:
        """What a generator with pathways reads of the dataset."""
        return Reading(
            self.dataset,
            self.sequences,
            self.config.generator.pathways,
            lambda: self.artefact("generator"),
            self.folder / "semantic_ids" / "ids",
        )

    def requests(self, part: Literal["valid", "test"], at_most: int | None = None) -> Requests:
        """Evaluation requests of a part, or an even sample of at most so many, with all that the generator reads of them.

        Raises:
            UserError: there are none, so nothing could be chosen or reported.
        """
        asked = evaluation_requests(self.sequences, part, self.config.dataset.targets_per_user, at_most)
        if len(asked) == 0:
            purpose = {"valid": "validate", "test": "test"}[part]
            raise UserError(
                f"{self.dataset.folder}: no user has an event to {purpose} on; "
                "leave-one-out needs users with at least three events"
            )
        return self.reading.of(asked)
