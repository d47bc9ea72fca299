"""Full ranking of the catalogue: lists for evaluation requests become figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onerec.data.requests import Requests
from onerec.evaluate.bootstrap import intervals, paired_intervals
from onerec.evaluate.breakdown import by_cold, by_history_length, by_popularity
from onerec.evaluate.metrics import CUTOFFS, case_metrics, coverage, id_case_metrics, id_ranks_of, ranks_of

LIST_LENGTH = max(CUTOFFS)

CaseFigures = Mapping[str, np.ndarray]
NOTHING: CaseFigures = {}


@dataclass(frozen=True)
class Measure:
    """What all models of a run are measured with.

    Attributes:
        requests: who asks, with the item that was taken next.
        training_counts_N: training events of each item.
        id_groups_N: a number per distinct code sequence before collisions were resolved, for ID-level hits.
        samples: bootstrap resamples.
        seed: of the resamples; the same for all models, so that differences are paired.
    """

    requests: Requests
    training_counts_N: np.ndarray
    id_groups_N: np.ndarray
    samples: int
    seed: int

    def figures(self, items_CK: np.ndarray, *, id_level: bool, beside: CaseFigures = NOTHING) -> dict[str, Any]:
        """Recall, NDCG and MRR with 95 % intervals, ID-level recall if asked for, coverage and the number of cases.

        `beside`: further figures by name, a number per case.
        """
        values = case_metrics(ranks_of(items_CK, self.requests.targets_C)) | dict(beside)
        if id_level:
            values |= id_case_metrics(id_ranks_of(items_CK, self.requests.targets_C, self.id_groups_N))
        measured: dict[str, Any] = dict(intervals(values, self.requests.users_C, self.samples, self.seed))
        for k in (10, LIST_LENGTH):
            measured[f"coverage@{k}"] = coverage(items_CK, len(self.training_counts_N), k)
        measured["cases"] = len(self.requests)
        return measured

    def breakdowns(self, items_CK: np.ndarray) -> dict[str, Any]:
        """Recall@10 and NDCG@10 by the target's popularity, by history length, and for cold targets."""
        requests = self.requests
        ranks, users_C = ranks_of(items_CK, requests.targets_C), requests.users_C
        options = (self.samples, self.seed)
        return {
            "by_popularity": by_popularity(ranks, users_C, requests.targets_C, self.training_counts_N, *options),
            "by_history_length": by_history_length(ranks, users_C, requests.history_offsets, *options),
            "by_cold": by_cold(ranks, users_C, requests.targets_C, self.training_counts_N, *options),
        }

    def paired(
        self,
        first_CK: np.ndarray,
        second_CK: np.ndarray,
        first_beside: CaseFigures = NOTHING,
        second_beside: CaseFigures = NOTHING,
    ) -> dict[str, Any]:
        """Differences of two models' figures on the same users, first minus second, with 95 % intervals."""
        first = case_metrics(ranks_of(first_CK, self.requests.targets_C)) | dict(first_beside)
        second = case_metrics(ranks_of(second_CK, self.requests.targets_C)) | dict(second_beside)
        return dict(paired_intervals(first, second, self.requests.users_C, self.samples, self.seed))


def quick_figures(items_CK: np.ndarray, requests: Requests) -> dict[str, float]:
    """The means that validation during training looks at: NDCG@10 first, it chooses the weights."""
    values = case_metrics(ranks_of(items_CK, requests.targets_C), cutoffs=(10,))
    return {name: float(values[name].mean()) for name in ("ndcg@10", "recall@10")}
