"""Figures from ranked lists for evaluation requests. Recommenders rank the whole catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onerec.data.requests import Requests
from onerec.evaluate.bootstrap import intervals, paired_intervals
from onerec.evaluate.breakdown import COLD_BUCKETS, HISTORY_BUCKETS, POPULARITY_BUCKETS, Buckets, by_bucket
from onerec.evaluate.metrics import CUTOFFS, case_metrics, coverage, id_case_metrics, id_ranks_of, ranks_of

LIST_LENGTH = max(CUTOFFS)

CaseFigures = Mapping[str, np.ndarray]
NOTHING: CaseFigures = {}


@dataclass(frozen=True)
class Measure:
    """Measures the lists of models on the same requests.

    Attributes:
        requests: with targets.
        training_counts_N: number of training events of each item.
        id_groups_N: each item's collision group, for ID-level recall; see `id_ranks_of`.
        samples: number of bootstrap resamples.
        seed: seed of the resamples. All models share it, so differences are paired.
    """

    requests: Requests
    training_counts_N: np.ndarray
    id_groups_N: np.ndarray
    samples: int
    seed: int

    def figures(self, items_CK: np.ndarray, *, id_level: bool, more: CaseFigures = NOTHING) -> dict[str, Any]:
        """Recall, NDCG and MRR with 95 % intervals, coverage and the number of cases.

        Args:
            items_CK: the lists of one model.
            id_level: add ID-level recall.
            more: other figures to add, by name, with one number per case.
        """
        values = case_metrics(ranks_of(items_CK, self.requests.targets_C)) | dict(more)
        if id_level:
            values |= id_case_metrics(id_ranks_of(items_CK, self.requests.targets_C, self.id_groups_N))
        measured: dict[str, Any] = dict(intervals(values, self.requests.users_C, self.samples, self.seed))
        for k in (10, LIST_LENGTH):
            measured[f"coverage@{k}"] = coverage(items_CK, len(self.training_counts_N), k)
        measured["cases"] = len(self.requests)
        return measured

    def breakdowns(self, items_CK: np.ndarray) -> dict[str, Any]:
        """Recall@10 and NDCG@10 by the target's popularity, by history length, and for cold against other targets."""
        requests = self.requests
        counts_C = self.training_counts_N[requests.targets_C]
        keys: dict[str, tuple[np.ndarray, Buckets]] = {
            "by_popularity": (counts_C, POPULARITY_BUCKETS),
            "by_history_length": (requests.history_lengths_C, HISTORY_BUCKETS),
            "by_cold": (counts_C, COLD_BUCKETS),
        }
        cases = (ranks_of(items_CK, requests.targets_C), requests.users_C)
        return {name: by_bucket(*cases, *key, self.samples, self.seed) for name, key in keys.items()}

    def paired(
        self,
        first_CK: np.ndarray,
        second_CK: np.ndarray,
        first_more: CaseFigures = NOTHING,
        second_more: CaseFigures = NOTHING,
    ) -> dict[str, Any]:
        """Paired differences of two models' figures, first minus second, with 95 % intervals."""
        first = case_metrics(ranks_of(first_CK, self.requests.targets_C)) | dict(first_more)
        second = case_metrics(ranks_of(second_CK, self.requests.targets_C)) | dict(second_more)
        return dict(paired_intervals(first, second, self.requests.users_C, self.samples, self.seed))


def quick_figures(items_CK: np.ndarray, requests: Requests) -> dict[str, float]:
    """Mean NDCG@10 and recall@10 for validation during training. NDCG@10 comes first; it selects the checkpoint."""
    values = case_metrics(ranks_of(items_CK, requests.targets_C), cutoffs=(10,))
    return {name: float(values[name].mean()) for name in ("ndcg@10", "recall@10")}
