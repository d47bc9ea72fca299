"""The learned reward: the P-Score of a trained preference model (OneRec Technical Report, arXiv 2506.13695)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rl.impressions import ImpressionLog
from rl.preference_model import Judgement, PreferenceModel
from rl.prompts import Prompts
from rl.rollouts import Rollouts

ILLEGAL = 0.0  # below every P-Score, which is a probability


@dataclass
class PreferenceScore:
    """Judges any item for any user, on the history that a prompt ends with.

    Prompts that name their target's event, or bring readings, are read from the log: every impression before, its signals, the
    user, also where a history in `cases` holds positive items alone. Of other prompts the items are all that is known.

    Attributes:
        model: a trained model, on the device to run on.
        log: of the dataset that the prompts come from.
        batch_size: histories judged together.
    """

    model: PreferenceModel
    log: ImpressionLog
    batch_size: int = 256

    def __call__(self, prompts: Prompts, rollouts: Rollouts) -> Tensor:
        """P-Scores float32 `[B, G]`, above 0 and below 1; 0 for a generation that is no item."""
        scores_BG = self.score(prompts, rollouts.items_BG.clamp(min=0))
        return scores_BG.masked_fill(~rollouts.legal, ILLEGAL)

    def score(self, prompts: Prompts, items_BX: Tensor) -> Tensor:
        """P-Scores of X items for each prompt, float32 `[B, X]` on the items' device."""
        return self._judge(prompts, items_BX).score_BX.sigmoid()

    def probabilities(self, prompts: Prompts, items_BX: Tensor) -> Tensor:
        """The probability of each objective (`model.objectives`), float32 `[B, X, O]` on the items' device."""
        return self._judge(prompts, items_BX).objectives_BXO.sigmoid()

    def _judge(self, prompts: Prompts, items_BX: Tensor) -> Judgement:
        candidates_BX, found = items_BX.cpu().numpy(), self.log.histories_of(prompts)
        if found is None:
            log, ends_B = self.log.of_items(prompts.cases), prompts.cases.history_offsets[1:]
            return self.judge_places(log, np.arange(len(ends_B)), ends_B, candidates_BX).to(items_BX.device)
        return self.judge_places(self.log, *found, candidates_BX).to(items_BX.device)

    @torch.inference_mode()
    def judge_places(
        self, log: ImpressionLog, users_C: np.ndarray, ends_C: np.ndarray, candidates_CX: np.ndarray
    ) -> Judgement:
        """Judge candidates behind the events before place `ends_C` of a log; figures on the CPU."""
        model, shape = self.model.eval(), candidates_CX.shape
        device = model.vectors_ND.device
        objectives, scores = torch.zeros(*shape, len(model.objectives)), torch.zeros(shape)
        for cases, batch in log.batches(users_C, ends_C, candidates_CX, model.config.history_length, self.batch_size):
            moved = batch.to(device)
            judged = model.judge(moved, moved.candidates_BX, moved.counts_BX).to("cpu")
            objectives[torch.from_numpy(cases)], scores[torch.from_numpy(cases)] = (
                judged.objectives_BXO,
                judged.score_BX,
            )
        return Judgement(objectives, scores)
