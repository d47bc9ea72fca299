"""What judges the lists: the held-out item, the reward model that did not reward, and what users did in the test part."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.study.runs import training_counts_of

if TYPE_CHECKING:
    from onerec.data.requests import Requests
    from onerec.run.run import Run
    from onerec.scorers.preference_score import PreferenceScore

TOP = 10


@dataclass(frozen=True)
class Yardstick:
    """Everything that the lists of one run are measured with.

    Attributes:
        training_counts_N: training events of each item.
        seconds_N: how long each video is, NaN where unknown.
        judge: the reward model that judges, or None.
        shown: pairs (user x items + item) of the test part's impressions, whatever came of them.
        taken: those of its positive events; on KuaiRand, long views.
    """

    training_counts_N: np.ndarray
    seconds_N: np.ndarray
    judge: "PreferenceScore | None"
    shown: np.ndarray
    taken: np.ndarray

    def measure(self, requests: "Requests", items_CK: np.ndarray) -> dict[str, np.ndarray]:
        """Figures of each list `[C]`: recall and NDCG of the request's target, and these of its first ten items.

        `judge`: their mean P-Score. `long_views`, `hit`: how many the user took in the test part, and whether any. `shown`: how
        many the test part showed. `cold`: the share of items without training events. `seconds`: their mean length.
        """
        from onerec.evaluate.metrics import ndcg, ranks_of, recall

        top_CK, users_C = items_CK[:, :TOP], requests.users_C
        ranks_C = ranks_of(items_CK, requests.targets_C)
        found: dict[str, np.ndarray] = {f"recall@{k}": recall(ranks_C, k) for k in (10, 50)}
        found["ndcg@10"] = ndcg(ranks_C, TOP)
        listed_CK = top_CK >= 0
        found["cold"] = _mean(self.training_counts_N[top_CK] == 0, listed_CK)
        if self.judge is None:
            return found
        found["judge"] = _mean(self.scores(requests, top_CK), listed_CK)
        taken_CK = self.taken_by(users_C, top_CK)
        found["long_views"], found["hit"] = taken_CK.sum(axis=1), taken_CK.max(axis=1)
        found["shown"] = self._among(self.shown, users_C, top_CK).sum(axis=1)
        seconds_CK = self.seconds_N[top_CK]
        found["seconds"] = _mean(np.nan_to_num(seconds_CK), listed_CK & ~np.isnan(seconds_CK))
        return found

    def scores(self, requests: "Requests", items_CK: np.ndarray) -> np.ndarray:
        """The judge's P-Scores, `[C, K]`; 0 where a list has no item."""
        assert self.judge is not None
        return np.where(items_CK >= 0, self.judge.p_scores(requests, items_CK), 0.0)

    def taken_by(self, users_C: np.ndarray, items_CK: np.ndarray) -> np.ndarray:
        """Which items the user took in the test part, boolean `[C, K]`."""
        return self._among(self.taken, users_C, items_CK)

    def _among(self, pairs: np.ndarray, users_C: np.ndarray, items_CK: np.ndarray) -> np.ndarray:
        asked_CK = users_C.astype(np.int64)[:, None] * len(self.training_counts_N) + items_CK
        found: np.ndarray = np.isin(asked_CK, pairs) & (items_CK >= 0)
        return found


def yardstick_of(run: "Run", judged: bool) -> Yardstick:
    """The yardstick of a run; with `judged`, the reward model that judges must be trained."""
    from onerec.data.split import TEST
    from rl.config.run import config_of
    from rl.reward_model.choice import judging_name
    from rl.reward_model.stage import load_preference_score

    items = len(run.item_ids)
    counts, nothing = training_counts_of(run), np.zeros(0, dtype=np.int64)
    name = judging_name(config_of(run)) if judged else None
    if name is None:
        return Yardstick(counts, np.zeros(0), None, nothing, nothing)
    judge = load_preference_score(run, name)
    log = judge.log
    pairs_E = log.users() * items + log.stream.item_index
    tested_E, event_E = log.parts_E == TEST, np.zeros(len(log.parts_E), dtype=bool)
    event_E[log.places_S] = True
    seconds_N = run.dataset.items["video_duration"].cast(float).fill_null(float("nan")).to_numpy() / 1000
    return Yardstick(counts, seconds_N, judge, np.unique(pairs_E[tested_E]), np.unique(pairs_E[tested_E & event_E]))


def _mean(values_CK: np.ndarray, listed_CK: np.ndarray) -> np.ndarray:
    mean_C: np.ndarray = (values_CK * listed_CK).sum(axis=1) / np.maximum(listed_CK.sum(axis=1), 1)
    return mean_C
