"""The first stage: the dataset's events as sequences, split into training, validation and test."""

from pathlib import Path
from typing import Any

from onerec.data.sequence_files import complete_folder
from onerec.data.split import split_sequences
from onerec.errors import UserError
from onerec.run.run import Facts, Run, Stage


class SequencesStage(Stage):
    """Write events by user, and the part that each belongs to, as files that are mapped into memory."""

    name = kind = "sequences"
    processes = "first"

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (run.data_key,)

    def make(self, run: Run, folder: Path) -> Facts:
        section = run.config.dataset
        sequences = split_sequences(
            run.dataset,
            method=section.split,
            positive=section.positive,
            fractions=(section.train_share, section.valid_share),
            folder=folder,
        )
        if not sequences.ordered:
            raise UserError(f"{run.dataset.folder}: its events have no order, so there is no next item to learn")
        complete_folder(sequences, folder)
        return {}
