"""A run: a config, a folder and a dictionary of stages. Each stage leaves an artefact and is skipped if its artefact is there.

A run knows no stage and no model by name. `onerec.run.opening` gives it the stages of this package and of all plugins.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from accelerate import PartialState
from filelock import BaseFileLock
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
from onerec.locks import hold_folder
from onerec.run.artefact import Artefact, check_intact, key_of
from onerec.run.config import RunConfig
from onerec.run.models import Model
from onerec.run.reading import Reading
from onerec.train.runtime import compute_on_cpu
from tokenizer.errors import TokenizerError

Facts = dict[str, Any]
TRAINING_FILE = "training.json"  # the facts that a stage returns
ASKED_SECONDS = 120.0  # work that took longer is not replaced without a question
DATASET_FILE = "dataset.json"  # the checked files of the dataset, and their hash


class Stage:
    """A step of a run.

    Attributes:
        name: of the stage, and of the folder of its artefact below the run's folder.
        kind: the first part of the key. Stages that differ only in their folder share it.
        needs: names of the stages whose keys are part of its own key. They are made first.
        after: names of other stages that are made first. Their keys would add nothing to the recipe.
        processes: who makes it, if there are several processes. "first": one process, while the others wait. "all": all processes
            together. "main": the main process, while the others go on.
        stored: whether it leaves an artefact. A stage without one only contributes models.
    """

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    processes: ClassVar[Literal["first", "all", "main"]] = "main"
    stored: ClassVar[bool] = True

    def asked(self, run: "Run") -> bool:
        """Whether the config asks for this stage."""
        return True

    def check(self, run: "Run") -> None:
        """Refuse settings that would fail after hours of work. Raises UserError."""

    def recipe(self, run: "Run") -> tuple[Any, ...]:
        """Everything that the artefact depends on besides `needs`, as plain JSON values. Together they make its key."""
        raise NotImplementedError

    def make(self, run: "Run", folder: Path) -> Facts:
        """Fill `folder`, which may hold an unfinished attempt with the same key.

        Returns:
            facts about the artefact as plain JSON values, or an empty dictionary. "train_seconds" counts all attempts.
        """
        raise NotImplementedError

    def models(self, run: "Run") -> Iterable[Model]:
        """The recommenders that the artefact holds. They are measured alongside all others."""
        return ()

    def notes(self, run: "Run") -> Iterable[str]:
        """What a reader should know before trusting the figures of these recommenders."""
        return ()

    def artefact(self, run: "Run") -> Artefact:
        """The place of the artefact, whether it is made or not."""
        return Artefact(run.folder / self.name, run.key(self.name))


@dataclass
class Run:
    """A config, a folder and a dictionary of stages.

    Args:
        config: the settings.
        folder: `runs/<name>`.
        stages: by name; each comes after the stages that it needs.
        wandb_project: the Weights & Biases project that training metrics are mirrored to, or None.
        trained_with: the config that the models were trained with, if `config` only changes how they are measured.
        redo: whether stages that took minutes may be made anew without a question.
        keep_config: called when a stage has been made, before it takes its place.
    """

    config: RunConfig
    folder: Path
    stages: Mapping[str, Stage]
    wandb_project: str | None = None
    trained_with: RunConfig | None = None
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.time)
    redo: bool = False
    keep_config: Callable[[], None] = field(default=lambda: None)
    _lock: BaseFileLock | None = field(default=None, init=False)
    _agreed: set[Path] = field(default_factory=set, init=False)
    _waited_for: set[str] = field(default_factory=set, init=False)

    # -- stages -------------------------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """The key of a stage: a hash of its recipe and the keys of what it needs."""
        stage = self.stages[name]
        return key_of(stage.kind, *(self.key(need) for need in stage.needs), *stage.recipe(self))

    def artefact(self, name: str) -> Artefact:
        """The artefact of a stage, whether it is made or not."""
        return self.stages[name].artefact(self)

    def make(self, name: str) -> Path:
        """Make a stage and the stages it needs. Finished stages are skipped; a killed one resumes where it stopped.

        If there are several processes, each of them must call this in the same order. A stage of the main process alone must
        not be the first to need a stage that processes share.

        Returns:
            the artefact's folder.
        """
        stage, artefact = self.stages[name], self.artefact(name)
        if stage.processes == "main" and not self.state.is_main_process:
            return artefact.folder
        # A process that comes late finds a stage of the first process done, yet the first process waits for it there.
        if artefact.done and (stage.processes != "first" or name in self._waited_for):
            return artefact.folder
        for needed in (*stage.after, *stage.needs):
            self.make(needed)
        if stage.processes == "main":
            self._begin(artefact)
            self._fill(stage, artefact)
        elif stage.processes == "first":
            with self.state.main_process_first():
                if not artefact.done:
                    self._begin(artefact)
                    self._fill(stage, artefact)
            self._waited_for.add(name)
        else:
            with self.state.main_process_first():
                if self.state.is_main_process:
                    self._begin(artefact)
            self._fill(stage, artefact)
            self.state.wait_for_everyone()  # otherwise a fast process might still see it unfinished
        return artefact.folder

    def _begin(self, artefact: Artefact) -> None:
        self.hold()
        artefact.recover()
        self._agree_to_replace([artefact])
        if artefact.damage:
            self.say(f"{artefact.damage}; it is made again")
        artefact.begin()

    def _fill(self, stage: Stage, artefact: Artefact) -> None:
        if artefact.done:  # a killed command had made it and not put it in its place
            return
        folder = artefact.working
        try:
            facts = stage.make(self, folder)
        except (UserError, TokenizerError):
            if self.state.is_main_process:
                artefact.give_up()
            raise
        if stage.processes == "all" and not self.state.is_main_process:
            return
        if facts:
            write_json(folder / TRAINING_FILE, facts)
        self.keep_config()
        artefact.finish(facts.get("train_seconds"))

    def hold(self) -> None:
        """Have the run's folder to this process alone until it ends. Raises UserError if another command holds it."""
        if self._lock is None and self.state.is_main_process:
            self._lock = hold_folder(self.folder, " ".join(["onerec", *sys.argv[1:2]]))

    def intact(self, name: str) -> Path:
        """The folder of a finished stage, whatever its key. Raises UserError if a file is not the one that was made."""
        check_intact(self.folder / name)
        return self.folder / name

    def _agree_to_replace(self, artefacts: Iterable[Artefact]) -> None:
        """Say what would be made anew, and ask if minutes of work would be deleted. Raises UserError if the answer is no."""
        at_stake = {one.folder: one.seconds_at_stake for one in artefacts}
        at_stake = {folder: seconds for folder, seconds in at_stake.items() if seconds and folder not in self._agreed}
        if not at_stake:
            return
        took = ", ".join(
            f"{folder.relative_to(self.folder)} ({duration(seconds)})" for folder, seconds in at_stake.items()
        )
        if self.redo or sum(at_stake.values()) < ASKED_SECONDS:
            self.say(f"made anew, since settings or data have changed: {took}")
        elif not (sys.stdin and sys.stdin.isatty()) or not _yes(
            f"{self.folder}: other settings or data made {took}. Replace?"
        ):
            raise UserError(
                f"{self.folder}: other settings or data made {took}; add --redo to make it anew, or name=… to keep both; "
                "nothing was changed"
            )
        self._agreed.update(at_stake)

    def make_all(self, names: Iterable[str] | None = None) -> None:
        """Make the stages that the config asks for, or those among `names`.

        Raises:
            UserError: a stage would fail. If this can be known before any work, nothing is made.
        """
        asked = [self.stages[name] for name in names or self.stages if self.stages[name].asked(self)]
        for stage in asked:
            stage.check(self)
        if self.state.is_main_process:
            self._agree_to_replace(self.artefact(stage.name) for stage in asked if stage.stored)
        for stage in asked:
            if stage.stored:
                self.make(stage.name)
        self.keep_config()

    def models(self) -> dict[str, Model]:
        """The recommenders of all stages that the config asks for, by name."""
        made = [model for stage in self.stages.values() if stage.asked(self) for model in stage.models(self)]
        return {model.name: model for model in made}

    # -- data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def state(self) -> PartialState:
        """Which of the processes that `accelerate launch` started this one is."""
        return PartialState(cpu=compute_on_cpu())

    def say(self, text: str) -> None:
        """Print a message. With several processes only the main process prints."""
        if self.state.is_main_process:
            self.console.print(text, markup=False)

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, read and checked. It is fetched first if the config names a public source and the folder is new."""
        section = self.config.dataset
        with self.state.main_process_first():
            if section.fetch == "movielens-100k" and not (section.folder / "dataset.yaml").exists():
                self.say(f"fetching MovieLens-100K into {section.folder}")
                fetch_movielens_100k(section.folder)
        dataset = read_checked(section.folder, self.folder / DATASET_FILE)
        feature_names(dataset, self.config.generator.pathways)  # refuses unknown names before any work
        return dataset

    @property
    def data_key(self) -> str:
        """A hash of the training and evaluation data: the dataset's bytes and how they are split."""
        return key_of(self.dataset.sha256, self.config.dataset.model_dump(exclude={"folder", "fetch"}, mode="json"))

    @cached_property
    def _stored_sequences(self) -> tuple[Sequences, tuple[np.ndarray, np.ndarray]]:
        return open_sequences(self.make("sequences"))

    @property
    def sequences(self) -> Sequences:
        """Every user's events with the part that each belongs to (train, valid or test), mapped into memory."""
        return self._stored_sequences[0]

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """The training events as items and offsets. Tokenizer, generator and baselines learn from nothing else."""
        return self._stored_sequences[1]

    @property
    def item_ids(self) -> pl.Series:
        """Item ids in the order of the items table. An item's number is its place here, in all of the code."""
        return self.dataset.items[self.dataset.spec.items.id]

    @cached_property
    def reading(self) -> Reading:
        """The events and features that a generator with pathways reads."""
        return Reading(
            self.dataset,
            self.sequences,
            self.config.generator.pathways,
            lambda: self.artefact("generator"),
            self.folder / "semantic_ids" / "ids",
        )

    def requests(self, part: Literal["valid", "test"], at_most: int | None = None) -> Requests:
        """The evaluation requests of a part, with everything that the generator reads; at most `at_most`, sampled evenly.

        Raises:
            UserError: there are none, so nothing could be validated or tested.
        """
        asked = evaluation_requests(self.sequences, part, self.config.dataset.targets_per_user, at_most)
        if len(asked) == 0:
            purpose = {"valid": "validate", "test": "test"}[part]
            raise UserError(
                f"{self.dataset.folder}: no user has an event to {purpose} on; "
                "leave-one-out needs users with at least three events"
            )
        return self.reading.of(asked)


def duration(seconds: float) -> str:
    """A duration for readers, such as "2 h 5 min", "3 min" or "12 s"."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _yes(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
