"""Selection: a linear scorer, fitted on validation requests, ranks the generator's candidates.

The OneRec Technical Report (arXiv 2506.13695) selects by a reward model of many signals. Here the only signal is the next item.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from onerec.data.candidates import Candidates, best_of
from onerec.data.requests import Requests
from onerec.evaluate.ranking import quick_figures
from onerec.scorers.candidate_features import CandidateFeatures
from onerec.scorers.co_occurrence import CoOccurrenceConfig
from onerec.scorers.linear_weights import LinearWeights
from tokenizer.common.settings import Settings


class SelectionSection(Settings):
    """Which of the generator's candidates make the list.

    Attributes:
        beam_width: candidates that the generator finds.
        decay: what an event of the history weighs against the next newer one in the history's mean.
        fit_cases: validation requests that the scorer's weights are fitted on, at most.
        new_items: candidates beside the beam that have no training events, those whose content is most like the history; 0: none.
        new_item_weight: how many times as much as others a validation request counts in which such an item was taken. 1 lists
            new items as often as they were taken, more lists them more often.
        co_occurrence: how it is counted, as for the item-kNN baseline.
    """

    beam_width: int = Field(300, ge=50, le=100_000)
    decay: float = Field(0.7, gt=0, le=1)
    fit_cases: int = Field(10000, gt=0)
    new_items: int = Field(50, ge=0, le=100_000)
    new_item_weight: float = Field(3.0, gt=0)
    co_occurrence: CoOccurrenceConfig = CoOccurrenceConfig()


@dataclass
class SelectionScorer:
    """Scores a generator's candidates by a weighted sum of their features."""

    features: CandidateFeatures
    weights: LinearWeights

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        """Log-probabilities over the candidates, in nats, float32 `[C, K]`, -inf where there is no candidate."""
        return self.weights.log_probabilities(self.features.of(requests, candidates), candidates.found_CK)


@dataclass(frozen=True)
class FittingRequests:
    """Validation requests that a scorer is fitted on.

    Attributes:
        requests: with targets.
        counts_C: weight of each request in the fit.
        even_C: boolean, the even sample of all users that figures are computed on.
    """

    requests: Requests
    counts_C: np.ndarray
    even_C: np.ndarray


def fitting_requests(
    requests: Requests, even: np.ndarray, features: CandidateFeatures, new_item_weight: float
) -> FittingRequests:
    """A sample of requests together with all requests whose target is a new item, weighted to keep their proportion.

    New items are so rare among targets that an even sample alone would hardly show which features matter for them.

    Args:
        requests: all validation requests.
        even: numbers of the sampled requests, ascending.
        features: tell which items are new.
        new_item_weight: factor on the weight of requests whose target is a new item; 1 keeps the proportion.
    """
    new_C = features.is_new(requests.targets_C)
    rows = np.union1d(even, np.flatnonzero(new_C))
    share = len(even) / max(len(requests), 1)
    counts_C = np.where(new_C[rows], share * new_item_weight, 1.0)
    return FittingRequests(requests.pick(rows), counts_C, np.isin(rows, even))


def fit_selection(
    candidates: Candidates, features: CandidateFeatures, fitting: FittingRequests
) -> tuple[SelectionScorer, dict[str, Any]]:
    """Fit a scorer on held-out requests and measure its gain.

    The figures are cross-fitted: each half of the requests is ranked by a scorer that was fitted on the other half. The returned
    scorer is fitted on both. If fitting does not improve NDCG@10, it keeps the generator's order.

    Args:
        candidates: of the generator, for `fitting.requests`.

    Returns:
        the scorer and its figures: "cases"; "proposed", the share of targets among the candidates; "generated" and "selected",
        recall@10 and ndcg@10 of the generator's order and of the scorer's; and "pays", whether the latter's NDCG@10 is higher.
    """
    requests, even_C = fitting.requests, fitting.even_C
    features_CKF = features.of(requests, candidates)
    chosen_C = target_places(candidates.items_CK, requests.targets_C)
    selected = cross_fitted(features.names, candidates, features_CKF, chosen_C, 10, fitting.counts_C)
    counted = requests.pick(np.flatnonzero(even_C))
    generated_figures = quick_figures(candidates.items_CK[even_C, :10], counted)
    selected_figures = quick_figures(selected[even_C], counted)
    pays = selected_figures["ndcg@10"] > generated_figures["ndcg@10"]
    figures = {
        "cases": len(counted),
        "proposed": float((chosen_C[even_C] >= 0).mean()),
        "generated": generated_figures,
        "selected": selected_figures,
        "pays": pays,
    }
    weights = LinearWeights.trusting(features.names)
    if pays:
        weights = LinearWeights.fit(features.names, features_CKF, candidates.found_CK, chosen_C, fitting.counts_C)
    return SelectionScorer(features, weights), figures


def target_places(items_CK: np.ndarray, targets_C: np.ndarray) -> np.ndarray:
    """The position of each target among its request's candidates, int64 `[C]`, -1 if it is not among them."""
    hit_CK = items_CK == targets_C[:, None]
    places_C: np.ndarray = np.where(hit_CK.any(axis=1), hit_CK.argmax(axis=1), -1)
    return places_C


def cross_fitted(
    names: list[str],
    candidates: Candidates,
    features_CKF: np.ndarray,
    chosen_C: np.ndarray,
    k: int,
    counts_C: np.ndarray | None = None,
) -> np.ndarray:
    """Lists of k items, int32 `[C, k]`; each half of the requests is ranked by a scorer fitted on the other half."""
    found_CK, even_C = candidates.found_CK, np.arange(len(chosen_C)) % 2 == 0
    lists_CK = np.empty((len(chosen_C), k), np.int32)
    for half in (even_C, ~even_C):
        counts = None if counts_C is None else counts_C[~half]
        weights = LinearWeights.fit(names, features_CKF[~half], found_CK[~half], chosen_C[~half], counts)
        scores = weights.log_probabilities(features_CKF[half], found_CK[half])
        part = Candidates(candidates.items_CK[half], candidates.scores_CK[half])
        lists_CK[half] = best_of(part, scores, k).items_CK
    return lists_CK
