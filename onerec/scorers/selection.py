"""Generate a wide beam, then keep what the scorer ranks first: OneRec's selection, with one signal."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onerec.data.split import Cases
from onerec.data.stream import Readings
from onerec.decode.recommend import GeneratorRecommender
from onerec.evaluate.ranking import quick_figures
from onerec.select.evidence import Evidence
from onerec.select.scorer import Scorer

CASES_AT_ONCE = 2048  # histories whose proposals and features are held together


@dataclass
class SelectingRecommender:
    """Recommend the best of a beam by a fitted scorer. The beam's width is the number of proposals.

    The OneRec Technical Report (arXiv 2506.13695) selects by a reward model of many signals; here the signal is the next
    item itself.
    """

    generator: GeneratorRecommender
    evidence: Evidence
    scorer: Scorer

    def recommend(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: Readings | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best proposals of each history; arguments and results as in `GeneratorRecommender.recommend`.

        Scores are log-probabilities among the proposals.
        """
        cases = len(history_offsets) - 1
        items_CK, scores_CK = np.full((cases, k), -1, np.int32), np.full((cases, k), -np.inf, np.float32)
        for start in range(0, cases, CASES_AT_ONCE):
            part = slice(start, min(start + CASES_AT_ONCE, cases))
            offsets = history_offsets[part.start : part.stop + 1]
            items, features = proposals(
                self.generator,
                self.evidence,
                history_items[offsets[0] : offsets[-1]],
                offsets - offsets[0],
                exclude_seen,
                None if readings is None else readings.part(part),
            )
            items_CK[part], scores_CK[part] = best(items, self.scorer.log_probabilities(features, items >= 0), k)
        return items_CK, scores_CK


def proposals(
    generator: GeneratorRecommender,
    evidence: Evidence,
    history_items: np.ndarray,
    history_offsets: np.ndarray,
    exclude_seen: bool,
    readings: Readings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The items a scorer chooses from, int32 `[C, K]`, -1 where there are no more, and their features, `[C, K, F]`.

    They are the generator's beam and, behind it, the new items that the evidence names.
    """
    new = None
    if evidence.new_items is not None:
        new, _ = evidence.new_items.recommend(history_items, history_offsets, evidence.new_items_proposed, exclude_seen)
    beams = generator.propose(history_items, history_offsets, generator.beam_width, exclude_seen, readings, new)
    return beams.items_CK, evidence.features(history_items, history_offsets, beams)


def best(items_CK: np.ndarray, scores_CK: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items of the highest scores, best first; equals stay in their order. Fewer are padded with -1 and -inf."""
    if items_CK.shape[1] < k:
        room = ((0, 0), (0, k - items_CK.shape[1]))
        items_CK = np.pad(items_CK, room, constant_values=-1)
        scores_CK = np.pad(scores_CK, room, constant_values=-np.inf)
    order_CK = np.argsort(-scores_CK, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(items_CK, order_CK, 1), np.take_along_axis(scores_CK, order_CK, 1)


@dataclass(frozen=True)
class FittingCases:
    """Validation cases that a scorer is fitted on.

    Attributes:
        cases: the cases.
        counts_C: how many times each counts when weights are fitted.
        even_C: which of them stand for all users; figures are theirs.
    """

    cases: Cases
    counts_C: np.ndarray
    even_C: np.ndarray


def fitting_cases(cases: Cases, even: np.ndarray, evidence: Evidence, new_item_weight: float) -> FittingCases:
    """A sample of cases, and every other one whose target is a new item, at the count that keeps proportions.

    New items are so rare among targets that an even sample would hardly tell what speaks for them.

    Args:
        even: numbers of the sampled cases, ascending.
        new_item_weight: times that a case with a new item for a target counts beside any other; 1 keeps proportions.
    """
    new_C = evidence.is_new(cases.target)
    rows = np.union1d(even, np.flatnonzero(new_C))
    share = len(even) / max(len(cases), 1)
    counts_C = np.where(new_C[rows], share * new_item_weight, 1.0)
    return FittingCases(cases.pick(rows), counts_C, np.isin(rows, even))


def fit_scorer(
    generator: GeneratorRecommender,
    evidence: Evidence,
    fitting: FittingCases,
    exclude_seen: bool,
    readings: Readings | None = None,
) -> tuple[Scorer, dict[str, Any]]:
    """Fit a scorer on held-out cases, and say what it is worth there.

    The figures are cross-fitted: each half of the cases is ranked by a scorer fitted on the other half. The scorer that is
    returned has seen both; where NDCG@10 says that fitting did not pay, it is one that trusts the generator.

    Returns:
        the scorer, and "cases", "proposed" (the share of targets among the proposals), "generated" and "selected" with
        recall@10 and ndcg@10 of the generator's order and of the scorer's, and "pays", whether the second is better.
    """
    cases, even_C = fitting.cases, fitting.even_C
    items, features = proposals(generator, evidence, cases.history_items, cases.history_offsets, exclude_seen, readings)
    chosen = chosen_places(items, cases.target)
    selected = cross_fitted(evidence.names, items, features, chosen, 10, fitting.counts_C)
    counted = cases.pick(np.flatnonzero(even_C))
    generated_figures = quick_figures(items[even_C, :10], counted)
    selected_figures = quick_figures(selected[even_C], counted)
    pays = selected_figures["ndcg@10"] > generated_figures["ndcg@10"]
    figures = {
        "cases": len(counted),
        "proposed": float((chosen[even_C] >= 0).mean()),
        "generated": generated_figures,
        "selected": selected_figures,
        "pays": pays,
    }
    if not pays:
        return Scorer.trusting(evidence.names), figures
    return Scorer.fit(evidence.names, features, items >= 0, chosen, fitting.counts_C), figures


def chosen_places(items_CK: np.ndarray, targets_C: np.ndarray) -> np.ndarray:
    """Where each target stands among its user's proposals, int64 `[C]`, -1 where it was not proposed."""
    hit_CK = items_CK == targets_C[:, None]
    places_C: np.ndarray = np.where(hit_CK.any(axis=1), hit_CK.argmax(axis=1), -1)
    return places_C


def cross_fitted(
    names: list[str],
    items_CK: np.ndarray,
    features_CKF: np.ndarray,
    chosen_C: np.ndarray,
    k: int,
    counts_C: np.ndarray | None = None,
) -> np.ndarray:
    """Lists of k, int32 `[C, k]`: each half of the cases ranked by a scorer that was fitted on the other half."""
    found_CK, even_C = items_CK >= 0, np.arange(len(items_CK)) % 2 == 0
    lists_CK = np.empty((len(items_CK), k), np.int32)
    for half in (even_C, ~even_C):
        counts = None if counts_C is None else counts_C[~half]
        scorer = Scorer.fit(names, features_CKF[~half], found_CK[~half], chosen_C[~half], counts)
        scores = scorer.log_probabilities(features_CKF[half], found_CK[half])
        lists_CK[half] = best(items_CK[half], scores, k)[0]
    return lists_CK
