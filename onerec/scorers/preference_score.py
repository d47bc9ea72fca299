"""The P-Score as a scorer: a trained preference model applied to candidates (OneRec Technical Report, arXiv 2506.13695)."""

from dataclasses import dataclass

import numpy as np
import torch

from onerec.data.candidates import Candidates
from onerec.data.impressions import ImpressionLog
from onerec.data.requests import Requests
from onerec.scorers.preference_model import Judgement, PreferenceModel


@dataclass
class PreferenceScore:
    """Scores items given the history of a request.

    For requests that name their target's event or have a stream, the model reads the log: all earlier impressions, their signals,
    and the user. For other requests it reads the items of the history alone.

    Attributes:
        model: a trained model, on the device to run on.
        log: of the dataset that the requests come from.
        batch_size: histories scored together.
    """

    model: PreferenceModel
    log: ImpressionLog
    batch_size: int = 256

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        """Log P-Scores in nats, float32 `[C, K]`; -inf where there is no candidate."""
        scores_CK = self.p_scores(requests, candidates.items_CK)
        log_scores_CK = np.log(np.maximum(scores_CK, np.finfo(np.float32).tiny))
        return np.where(candidates.found_CK, log_scores_CK, -np.inf).astype(np.float32)

    def p_scores(self, requests: Requests, items_CX: np.ndarray) -> np.ndarray:
        """P-Scores of X items for each request, float32 `[C, X]`, between 0 and 1; arbitrary for a missing item (-1)."""
        scores_CX: np.ndarray = self.judge(requests, items_CX).score_BX.sigmoid().numpy()
        return scores_CX

    def judge(self, requests: Requests, items_CX: np.ndarray) -> Judgement:
        """Logits of X items for each request, on the CPU."""
        items_CX, found = np.maximum(items_CX, 0), self.log.histories_of(requests)
        if found is None:
            log, ends_C = self.log.of_items(requests), requests.history_offsets[1:]
            return self.judge_places(log, np.arange(len(ends_C)), ends_C, items_CX)
        return self.judge_places(self.log, *found, items_CX)

    @torch.inference_mode()
    def judge_places(
        self, log: ImpressionLog, users_C: np.ndarray, ends_C: np.ndarray, items_CX: np.ndarray
    ) -> Judgement:
        """Logits of items `[C, X]`, each with the events of its user before place `ends_C` of a log; on the CPU."""
        model, shape = self.model.eval(), items_CX.shape
        device = model.vectors_ND.device
        objectives, scores = torch.zeros(*shape, len(model.objectives)), torch.zeros(shape)
        for rows, batch in log.batches(users_C, ends_C, items_CX, model.config.history_length, self.batch_size):
            moved = batch.to(device)
            judged = model.judge(moved, moved.candidates_BX, moved.counts_BX).to("cpu")
            places = torch.from_numpy(rows)
            objectives[places], scores[places] = judged.objectives_BXO, judged.score_BX
        return Judgement(objectives, scores)
