"""The interface of scorers."""

from typing import Protocol

import numpy as np

from onerec.data.candidates import Candidates
from onerec.data.requests import Requests


class Scorer(Protocol):
    """Gives every candidate of every request a number."""

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        """Scores float32 `[C, K]`; higher is better, -inf where there is no candidate."""
        ...
