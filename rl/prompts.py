"""What a policy is asked: users' histories at some moment, and what they took next."""

from dataclasses import dataclass

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
