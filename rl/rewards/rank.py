"""MiniOneRec's ranking reward (arXiv 2510.24431): where the target was generated, misses ranked high cost more than others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.rewards.hit import hits
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class RankReward:
    """Penalties of the misses in groups that hold the target; 0 for the target itself and in all other groups.

    The penalty of rank i (from 0) is `-1 / log2(i + 2)`, divided by the sum of all G of them. Ranks are those of the
    log-probabilities, most probable first: the order in which beam search returns its generations, which is where MiniOneRec
    takes them from, and the only one that samples have. Equal ones stay in the order of the group. A generation that is no
    item is a miss.
    """

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`, from -1 to 0."""
        hit_BG = hits(prompts, rollouts)
        order_BG = rollouts.log_probabilities_BGL.sum(dim=-1).argsort(dim=1, descending=True, stable=True)
        penalties_G = rank_penalties(hit_BG.shape[1]).to(hit_BG.device)
        ranked_BG = torch.empty_like(order_BG, dtype=torch.float32)
        ranked_BG.scatter_(1, order_BG, penalties_G.expand_as(ranked_BG))
        return torch.where(hit_BG.any(dim=1, keepdim=True) & ~hit_BG, ranked_BG, 0.0)


def rank_penalties(group: int) -> Tensor:
    """What a miss costs at each rank of a group, float32 `[G]`: negative, falling off, and -1 in sum."""
    gains_G = 1 / torch.log2(torch.arange(group, dtype=torch.float32) + 2)
    return -gains_G / gains_G.sum()
