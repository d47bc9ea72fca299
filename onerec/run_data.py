"""What a run is about: its config and folder, and the data that every stage learns from or is asked about."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from accelerate import PartialState
from rich.console import Console

from onerec.artefacts import Stage, key_of
from onerec.config import RunConfig
from onerec.data.contract import Dataset, read_dataset
from onerec.data.features import feature_names
from onerec.data.sequence_files import complete_folder, open_sequences
from onerec.data.sources.movielens import fetch_movielens_100k
from onerec.data.split import Cases, Sequences, evaluation_cases, split_sequences
from onerec.errors import UserError
from onerec.train.runtime import compute_on_cpu


@dataclass
class RunData:
    """Dataset, sequences and evaluation cases of a run.

    Args:
        config: what to do.
        folder: `runs/<name>`.
        wandb_project: mirror training metrics to Weights & Biases under this project, or None.
        trained_with: the config its models were trained with, where `config` asks for another measurement of them.
    """

    config: RunConfig
    folder: Path
    wandb_project: str | None = None
    trained_with: RunConfig | None = None
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.time)

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
        dataset = read_dataset(section.folder)
        feature_names(dataset, self.config.generator.pathways)  # refuses unknown names before any work is done
        return dataset

    @property
    def sequences(self) -> Sequences:
        """Every user's events with the part (train, valid, test) each belongs to."""
        return self._stored_sequences[0]

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Training events as items and offsets: all that tokenizer, generator and baselines ever learn from."""
        return self._stored_sequences[1]

    @cached_property
    def _stored_sequences(self) -> tuple[Sequences, tuple[np.ndarray, np.ndarray]]:
        """Both, as files of the run that are mapped into memory."""
        stage = Stage(self.folder / "sequences", key_of("sequences", self.data_key))
        with self.state.main_process_first():
            if not stage.done:
                stage.begin()
                complete_folder(self._split(stage.folder), stage.folder)
                stage.finish()
        return open_sequences(stage.folder)

    def _split(self, folder: Path) -> Sequences:
        section = self.config.dataset
        sequences = split_sequences(
            self.dataset,
            method=section.split,
            positive=section.positive,
            fractions=(section.train_share, section.valid_share),
            folder=folder,
        )
        if not sequences.ordered:
            raise UserError(f"{self.dataset.folder}: its events have no order, so there is no next item to learn")
        return sequences

    def cases(self, part: str, at_most: int | None = None) -> Cases:
        """Evaluation cases of "valid" or "test", or an even sample of at most so many.

        Raises:
            UserError: there are none, so nothing could be chosen or reported.
        """
        targets = self.config.dataset.targets_per_user
        cases = evaluation_cases(self.sequences, part, targets, at_most)  # type: ignore[arg-type]
        if len(cases) == 0:
            purpose = {"valid": "validate", "test": "test"}[part]
            raise UserError(
                f"{self.dataset.folder}: no user has an event to {purpose} on; "
                "leave-one-out needs users with at least three events"
            )
        return cases

    @property
    def data_key(self) -> str:
        """Identifies the training and evaluation data: the dataset's bytes and how they are split."""
        return key_of(self.dataset.sha256, self.config.dataset.model_dump(exclude={"folder", "fetch"}, mode="json"))

    @property
    def item_ids(self) -> pl.Series:
        """Item ids in the order of the items table, which is the order of item numbers everywhere."""
        return self.dataset.items[self.dataset.spec.items.id]
