"""What judges the lists: the held-out item, the reward model that did not reward, and what users did in the test part."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.study.runs import training_counts_of

TOP = 10


@dataclass(frozen=True)
class Yardstick:
    """Everything that the lists of one run are measured with.

    Attributes:
        training_counts_N: training events of each item.
        seconds_N: how long each video is, NaN where unknown.
        judge: the reward model that judges (`rl.rewards.preference_score.PreferenceScore`), or None.
        shown: pairs (user x items + item) of the test part's impressions, whatever came of them.
        taken: those of its positive events; on KuaiRand, long views.
    """

    training_counts_N: np.ndarray
    seconds_N: np.ndarray
    judge: Any
    shown: np.ndarray
    taken: np.ndarray

    def measure(self, prompts: Any, items_CK: np.ndarray) -> dict[str, np.ndarray]:
        """Figures of each list `[C]`: recall and NDCG of the case's target, and these of its first ten items.

        `judge`: their mean P-Score. `long_views`, `hit`: how many the user took in the test part, and whether any. `shown`: how
        many the test part showed. `cold`: the share of items without training events. `seconds`: their mean length.
        """
        from onerec.evaluate.metrics import ndcg, ranks_of, recall

        cases, top_CK = prompts.cases, items_CK[:, :TOP].astype(np.int64)
        ranks_C = ranks_of(items_CK, cases.target)
        found: dict[str, np.ndarray] = {f"recall@{k}": recall(ranks_C, k) for k in (10, 50)}
        found["ndcg@10"] = ndcg(ranks_C, TOP)
        listed_CK = top_CK >= 0
        found["cold"] = _mean(self.training_counts_N[top_CK] == 0, listed_CK)
        if self.judge is None:
            return found
        found["judge"] = _mean(self.scores(prompts, top_CK), listed_CK)
        taken_CK = self.taken_by(cases.user_index, top_CK)
        found["long_views"], found["hit"] = taken_CK.sum(axis=1), taken_CK.max(axis=1)
        found["shown"] = self._among(self.shown, cases.user_index, top_CK).sum(axis=1)
        seconds_CK = self.seconds_N[top_CK]
        found["seconds"] = _mean(np.nan_to_num(seconds_CK), listed_CK & ~np.isnan(seconds_CK))
        return found

    def scores(self, prompts: Any, items_CK: np.ndarray) -> np.ndarray:
        """The judge's P-Scores, `[C, K]`; 0 where a list has no item."""
        import torch

        asked = torch.from_numpy(items_CK.astype(np.int64))
        scores: np.ndarray = self.judge.score(prompts, asked.clamp(min=0)).masked_fill(asked < 0, 0.0).numpy()
        return scores

    def taken_by(self, users_C: np.ndarray, items_CK: np.ndarray) -> np.ndarray:
        """Which items the user took in the test part, boolean `[C, K]`."""
        return self._among(self.taken, users_C, items_CK)

    def _among(self, pairs: np.ndarray, users_C: np.ndarray, items_CK: np.ndarray) -> np.ndarray:
        asked_CK = users_C.astype(np.int64)[:, None] * len(self.training_counts_N) + items_CK
        found: np.ndarray = np.isin(asked_CK, pairs) & (items_CK >= 0)
        return found


def yardstick_of(run: Any, judge: Any) -> Yardstick:
    """The yardstick of a run; `judge`: see `Yardstick`."""
    from onerec.data.split import TEST

    items = len(run.item_ids)
    counts, nothing = training_counts_of(run), np.zeros(0, dtype=np.int64)
    if judge is None:
        return Yardstick(counts, np.zeros(0), None, nothing, nothing)
    log = judge.log
    pairs_E = log.users() * items + log.stream.item_index
    tested_E, event_E = log.parts_E == TEST, np.zeros(len(log.parts_E), dtype=bool)
    event_E[log.places_S] = True
    seconds_N = run.dataset.items["video_duration"].cast(float).fill_null(float("nan")).to_numpy() / 1000
    return Yardstick(counts, seconds_N, judge, np.unique(pairs_E[tested_E]), np.unique(pairs_E[tested_E & event_E]))


def _mean(values_CK: np.ndarray, listed_CK: np.ndarray) -> np.ndarray:
    mean_C: np.ndarray = (values_CK * listed_CK).sum(axis=1) / np.maximum(listed_CK.sum(axis=1), 1)
    return mean_C
