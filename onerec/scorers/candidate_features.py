"""The features of candidates that selection reads: the generator's probability, co-occurrence, likeness to the history.

The generator sees codes, so what it knows of an item is shared with items of similar codes. Co-occurrence counts and likeness to
items of the history are specific to the item. All features come from training events alone.
"""

from dataclasses import dataclass, field

import numpy as np

from onerec.data.candidates import ITEM_SCORE, Candidates
from onerec.data.requests import Requests
from onerec.scorers.co_occurrence import CoOccurrence, CoOccurrenceConfig
from onerec.scorers.content_likeness import likeness_features
from tokenizer.common.vectors import normalise_rows

FLOOR = 0.01  # added to scores before the logarithm, as a share of the median positive co-occurrence
NEWEST_ONLY = CoOccurrenceConfig(
    window=1, decay=1e-9, session_weight=0
)  # a decay so small that only the newest event counts


@dataclass
class CandidateFeatures:
    """Features of candidates.

    Each block of item vectors gives two cosines. One is with the mean of the history, in which the newest event weighs 1, the one
    before `decay`, and so on. The other is the largest with any single event.

    Co-occurrence gives a logarithm and a square root: both whether it is positive at all and how large it is matter. Items that
    came directly after the newest event in training have a feature of their own.

    New items have no training events. They have no co-occurrence, and the generator finds all of them improbable. With
    `new_items_M`, their likeness of content has separate weights.

    Attributes:
        item_scores: whether the generator has an item scorer, whose score is then a feature.
        co_occurrence: counted on the training part.
        directly_after: counted on the training part with `NEWEST_ONLY`.
        vectors: blocks of item vectors `[N, D]` by name; a row of zeros has cosine 0 with everything.
        decay: see above, in (0, 1].
        new_items_M: items without training events; None: treat them like all others.
    """

    item_scores: bool
    co_occurrence: CoOccurrence
    directly_after: CoOccurrence
    vectors: dict[str, np.ndarray]
    decay: float
    new_items_M: np.ndarray | None = None
    _unit: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._unit = {name: normalise_rows(block_ND) for name, block_ND in self.vectors.items()}

    def is_new(self, items: np.ndarray) -> np.ndarray:
        """Which items `[...]` are new; a missing item (-1) is not."""
        if self.new_items_M is None:
            return np.zeros(items.shape, bool)
        return np.isin(items, self.new_items_M)

    @property
    def names(self) -> list[str]:
        """The names of the features in their order; `log_probability` is the first."""
        likeness = [f"{name}_{how}" for name in self._unit for how in ("mean", "most")]
        generated = ["log_probability", ITEM_SCORE] if self.item_scores else ["log_probability"]
        together = ["co_occurrence", "co_occurrence_root", "never_together", "directly_after"]
        new = ["new", "new_content_mean", "new_content_most"] if self.new_items_M is not None else []
        return [*generated, *together, *likeness, *new]

    def of(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        """Features of a generator's candidates, float32 `[C, K, F]`, 0 where there is no candidate."""
        items_CK, found_CK = candidates.items_CK, candidates.found_CK
        together_CK = self.co_occurrence.scores_of(requests, items_CK)
        after_CK = self.directly_after.scores_of(requests, items_CK)
        columns = [np.where(found_CK, candidates.scores_CK, 0)]
        if self.item_scores:
            columns.append(candidates.features[ITEM_SCORE])
        columns += [_logarithm(together_CK, self.co_occurrence), np.sqrt(together_CK), together_CK <= 0]
        columns.append(_logarithm(after_CK, self.directly_after))
        for unit_ND in self._unit.values():
            columns += likeness_features(unit_ND, requests, np.maximum(items_CK, 0), self.decay)
        if self.new_items_M is not None:
            new_CK = self.is_new(items_CK)
            content = [columns[self.names.index(name)] for name in ("content_mean", "content_most")]
            columns += [new_CK, *(new_CK * column for column in content)]
        return np.stack([np.where(found_CK, column, 0).astype(np.float32) for column in columns], axis=-1)


def _logarithm(scores_CK: np.ndarray, counted: CoOccurrence) -> np.ndarray:
    """The logarithm of scores, plus a floor in proportion to their scale."""
    floor = FLOOR * counted.median_strength if counted.median_strength else 1.0
    logarithm: np.ndarray = np.log(scores_CK + floor)
    return logarithm
