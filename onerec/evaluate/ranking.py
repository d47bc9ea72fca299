"""Full ranking of the catalogue: run a recommender over evaluation cases and turn its lists into figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onerec.data.split import Cases
from onerec.evaluate.bootstrap import intervals, paired_intervals
from onerec.evaluate.breakdown import by_cold, by_history_length, by_popularity
from onerec.evaluate.metrics import CUTOFFS, case_metrics, coverage, id_case_metrics, id_ranks_of, ranks_of

LIST_LENGTH = max(CUTOFFS)

CaseFigures = Mapping[str, np.ndarray]
NOTHING: CaseFigures = {}


class Recommender(Protocol):
    """Anything that turns histories into ranked items."""

    def recommend(
        self, history_items: np.ndarray, history_offsets: np.ndarray, k: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items int32 `[C, k]` (-1 where there are no more) and scores float32 `[C, k]`, best first."""
        ...


@dataclass(frozen=True)
class Measure:
    """What all models of a run are measured with.

    Attributes:
        cases: who is asked for what.
        training_counts_N: training events of each item.
        id_groups_N: a number per distinct code sequence before collisions were resolved, for ID-level hits.
        samples: bootstrap resamples.
        seed: of the resamples; the same for all models, so that differences are paired.
    """

    cases: Cases
    training_counts_N: np.ndarray
    id_groups_N: np.ndarray
    samples: int
    seed: int

    def figures(self, items_CK: np.ndarray, *, id_level: bool, beside: CaseFigures = NOTHING) -> dict[str, Any]:
        """Recall, NDCG and MRR with 95 % intervals, ID-level recall if asked for, coverage and the number of cases.

        `beside`: further figures by name, a number per case.
        """
        values = case_metrics(ranks_of(items_CK, self.cases.target)) | dict(beside)
        if id_level:
            values |= id_case_metrics(id_ranks_of(items_CK, self.cases.target, self.id_groups_N))
        measured: dict[str, Any] = dict(intervals(values, self.cases.user_index, self.samples, self.seed))
        for k in (10, LIST_LENGTH):
            measured[f"coverage@{k}"] = coverage(items_CK, len(self.training_counts_N), k)
        measured["cases"] = len(self.cases)
        return measured

    def breakdowns(self, items_CK: np.ndarray) -> dict[str, Any]:
        """Recall@10 and NDCG@10 by the target's popularity, by history length, and for cold targets."""
        ranks, cases = ranks_of(items_CK, self.cases.target), self.cases
        options = (self.samples, self.seed)
        return {
            "by_popularity": by_popularity(ranks, cases.user_index, cases.target, self.training_counts_N, *options),
            "by_history_length": by_history_length(ranks, cases.user_index, cases.history_offsets, *options),
            "by_cold": by_cold(ranks, cases.user_index, cases.target, self.training_counts_N, *options),
        }

    def paired(
        self,
        first_CK: np.ndarray,
        second_CK: np.ndarray,
        first_beside: CaseFigures = NOTHING,
        second_beside: CaseFigures = NOTHING,
    ) -> dict[str, Any]:
        """Differences of two models' figures on the same users, first minus second, with 95 % intervals."""
        first = case_metrics(ranks_of(first_CK, self.cases.target)) | dict(first_beside)
        second = case_metrics(ranks_of(second_CK, self.cases.target)) | dict(second_beside)
        return dict(paired_intervals(first, second, self.cases.user_index, self.samples, self.seed))


def quick_figures(items_CK: np.ndarray, cases: Cases) -> dict[str, float]:
    """The means that validation during training looks at: NDCG@10 first, it chooses the weights."""
    values = case_metrics(ranks_of(items_CK, cases.target), cutoffs=(10,))
    return {name: float(values[name].mean()) for name in ("ndcg@10", "recall@10")}
