"""A generator's candidates with the features that selection scores them by, for scorers that see some of the features."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onerec.data.candidates import Candidates
    from onerec.run.run import Run
    from onerec.scorers.selection import FittingRequests


@dataclass(frozen=True)
class FeaturedCandidates:
    """Candidates, and what a scorer may know of them.

    Attributes:
        asked: requests, and how they count when a scorer is fitted.
        candidates: of each request.
        features_CKF: of each candidate.
    """

    asked: "FittingRequests"
    candidates: "Candidates"
    features_CKF: np.ndarray


def candidates_of(run: "Run", rows: dict[str, np.ndarray]) -> tuple[list[str], dict[str, FeaturedCandidates]]:
    """Names of the features, and by part of the data the candidates of the requests with these numbers.

    The requests with new items, which a scorer is fitted on too, are added to those of validation.
    """
    from onerec.recommenders.cascade import as_candidates
    from onerec.run.stages.selection import load_selection, section_of
    from onerec.scorers.selection import FittingRequests, SelectionScorer, fitting_requests

    selection, section, parts = load_selection(run), section_of(run), {}
    assert isinstance(selection.reranker, SelectionScorer)
    finder, features = selection.recommender, selection.reranker.features
    for part, chosen in rows.items():
        requests = run.requests("valid" if part == "valid" else "test")
        if part == "valid":
            asked = fitting_requests(requests, chosen, features, section.new_item_weight)
        else:
            asked = FittingRequests(requests.pick(chosen), np.ones(len(chosen)), np.ones(len(chosen), bool))
        exclude_seen = run.config.recommend.exclude_seen
        found = as_candidates(finder.recommend(asked.requests, selection.candidates, exclude_seen=exclude_seen))
        parts[part] = FeaturedCandidates(asked, found, features.of(asked.requests, found))
    return features.names, parts


def ranked(parts: dict[str, FeaturedCandidates], names: list[str], chosen: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 50 for validation requests (cross-fitted) and for test requests, by a scorer that sees the chosen features."""
    from onerec.data.candidates import best_of
    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.scorers.linear_weights import LinearWeights
    from onerec.scorers.selection import cross_fitted, target_places

    columns = [names.index(name) for name in chosen]
    valid, test = parts["valid"], parts["test"]
    candidates, counts_C, features_CKF = valid.candidates, valid.asked.counts_C, valid.features_CKF[..., columns]
    taken_C = target_places(candidates.items_CK, valid.asked.requests.targets_C)
    lists_CK = cross_fitted(chosen, candidates, features_CKF, taken_C, LIST_LENGTH, counts_C)
    weights = LinearWeights.fit(chosen, features_CKF, candidates.found_CK, taken_C, counts_C)
    scores_CK = weights.log_probabilities(test.features_CKF[..., columns], test.candidates.found_CK)
    return lists_CK[valid.asked.even_C], best_of(test.candidates, scores_CK, LIST_LENGTH).items_CK
