"""What a policy is asked: users' histories at some moment, and what they took next."""

from dataclasses import dataclass

import numpy as np

from onerec.data.split import Cases
from onerec.data.stream import Readings


@dataclass(frozen=True)
class Prompts:
    """B histories that groups are generated for.

    Attributes:
        cases: histories as items, users, and the item that was taken next (`cases.target`).
        readings: what a generator with pathways reads of them; None where it reads items and nothing else.
    """

    cases: Cases
    readings: Readings | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def pick(self, rows: np.ndarray) -> "Prompts":
        """The prompts of these numbers, in their order; a number may come several times."""
        readings = self.readings
        if readings is not None:
            readings = Readings(readings.stream, readings.users_C[rows], readings.ends_C[rows])
        return Prompts(self.cases.pick(rows), readings)
