"""MiniOneRec's ranking reward (arXiv 2510.24431): in groups that hold the target, a miss costs more the higher it ranks."""

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.rewards.hit import hits
from rl.rollouts.rollouts import Rollouts


def rank_reward(prompts: Requests, rollouts: Rollouts) -> Tensor:
    """Rewards float32 `[B, G]`, from -1 to 0: penalties of misses where the group holds the target, 0 everywhere else.

    The penalty of rank i (from 0) is `-1 / log2(i + 2)`, divided by the sum of all G of them. Ranks follow the log-probabilities,
    the most probable generation first. MiniOneRec ranks by the order of beam search, which is the same order, and samples have no
    other. Equal log-probabilities keep the order of the group. A generation that is no item is a miss.
    """
    hit_BG = hits(prompts, rollouts)
    order_BG = rollouts.log_probabilities_BGL.sum(dim=-1).argsort(dim=1, descending=True, stable=True)
    penalties_G = rank_penalties(hit_BG.shape[1]).to(hit_BG.device)
    ranked_BG = torch.empty_like(order_BG, dtype=torch.float32)
    ranked_BG.scatter_(1, order_BG, penalties_G.expand_as(ranked_BG))
    return torch.where(hit_BG.any(dim=1, keepdim=True) & ~hit_BG, ranked_BG, 0.0)


def rank_penalties(group: int) -> Tensor:
    """The cost of a miss at each rank of a group, float32 `[G]`: negative, smaller at lower ranks, with sum -1."""
    gains_G = 1 / torch.log2(torch.arange(group, dtype=torch.float32) + 2)
    return -gains_G / gains_G.sum()
