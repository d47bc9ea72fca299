"""The learned reward: the P-Score of a trained reward model (OneRec Technical Report, arXiv 2506.13695)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.requests import Requests
from onerec.scorers.preference_score import PreferenceScore
from rl.rollouts.rollouts import Rollouts

ILLEGAL = 0.0  # a P-Score is a probability above 0


@dataclass(frozen=True)
class PScoreReward:
    """The P-Score of each generation, between 0 and 1, and 0 for a generation that is no item."""

    score: PreferenceScore

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]` on the rollouts' device."""
        scores_BG = torch.from_numpy(self.score.p_scores(prompts, rollouts.items_BG.cpu().numpy()))
        return scores_BG.to(rollouts.items_BG.device).masked_fill(~rollouts.legal, ILLEGAL)
