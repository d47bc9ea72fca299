"""A generator's candidates with the features that selection scores them by, for scorers that see some of the features."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """Cases, and what a scorer chooses from and knows.

    Attributes:
        cases: the cases.
        items_CK: candidates of each, -1 where there are no more.
        features_CKF: what is known of each candidate.
        counts_C: how many times each case counts when a scorer is fitted.
        even_C: which cases stand for all users; figures are theirs.
    """

    cases: Any
    items_CK: np.ndarray
    features_CKF: np.ndarray
    counts_C: np.ndarray
    even_C: np.ndarray


def candidates_of(run: Any, rows: dict[str, np.ndarray]) -> tuple[list[str], dict[str, Candidates]]:
    """Names of the features, and by part of the data the candidates of the cases with these numbers.

    The cases with new items, which a scorer is fitted on too, are added to those of validation.
    """
    from onerec.run.stages.selection import make_evidence, proposing_generator
    from onerec.scorers.selection import FittingCases, fitting_cases, proposals

    section, exclude_seen = run.config.selection, run.config.recommend.exclude_seen
    generator = proposing_generator(run, section)
    evidence, parts = make_evidence(run, section, generator), {}
    for part, chosen in rows.items():
        asked = FittingCases(run.cases(part).pick(chosen), np.ones(len(chosen)), np.ones(len(chosen), bool))
        if part == "valid":
            asked = fitting_cases(run.cases(part), chosen, evidence, section.new_item_weight)
        cases = asked.cases
        history = (cases.history_items, cases.history_offsets, exclude_seen, run.readings(cases))
        parts[part] = Candidates(cases, *proposals(generator, evidence, *history), asked.counts_C, asked.even_C)
    return evidence.names, parts


def ranked(parts: dict[str, Candidates], names: list[str], chosen: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 50 for validation cases (cross-fitted) and for test cases, by a scorer that sees the chosen features alone."""
    from onerec.evaluate.ranking import LIST_LENGTH
    from onerec.scorers.linear_weights import Scorer
    from onerec.scorers.selection import best, chosen_places, cross_fitted

    columns = [names.index(name) for name in chosen]
    valid, test = parts["valid"], parts["test"]
    features, taken = valid.features_CKF[..., columns], chosen_places(valid.items_CK, valid.cases.target)
    lists = cross_fitted(chosen, valid.items_CK, features, taken, LIST_LENGTH, valid.counts_C)
    scorer = Scorer.fit(chosen, features, valid.items_CK >= 0, taken, valid.counts_C)
    scores = scorer.log_probabilities(test.features_CKF[..., columns], test.items_CK >= 0)
    return lists[valid.even_C], best(test.items_CK, scores, LIST_LENGTH)[0]
