"""A weighted mean of the recommender's scores of its candidates and another scorer's."""

from dataclasses import dataclass

import numpy as np

from onerec.data.candidates import Candidates
from onerec.data.requests import Requests
from onerec.scorers.scorer import Scorer


@dataclass
class Mixture:
    """Scores `(1 - weight) x the candidate's score + weight x the scorer's`, both log-probabilities in nats.

    Attributes:
        scorer: gives the other score.
        weight: 0 keeps the recommender's order, 1 ranks by `scorer` alone.
    """

    scorer: Scorer
    weight: float

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        """The mixture, float32 `[C, K]`; -inf where there is no candidate."""
        return mixture(candidates.scores_CK, self.scorer.score(requests, candidates), self.weight)


def mixture(own_CK: np.ndarray, other_CK: np.ndarray, weight: float) -> np.ndarray:
    """`(1 - weight) x own + weight x other`, float32 `[C, K]`; -inf where `own_CK` is -inf, because there is no candidate."""
    found_CK = np.isfinite(own_CK)
    mixed_CK = (1 - weight) * np.where(found_CK, own_CK, 0) + weight * np.where(found_CK, other_CK, 0)
    return np.where(found_CK, mixed_CK, -np.inf).astype(np.float32)
