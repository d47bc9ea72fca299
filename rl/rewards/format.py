"""Legality: the OneRec Technical Report's format reward (arXiv 2506.13695), with its random choice of K among G.

Preference optimisation takes probability away from items that earn little, and some of it ends on code sequences that no item
has. Rewarding all legal generations, or the most probable ones, teaches only what the policy does already. So a random few of
each group are rewarded.
"""

from typing import Literal

import torch
from torch import Tensor

from rl.rollouts.rollouts import Rollouts


def format_advantages(rollouts: Rollouts, chosen: int, by: Literal["random", "most_probable"]) -> Tensor:
    """1 for the legal ones among K chosen generations of each group, 0 for all others, float32 `[B, G]`.

    These are advantages already and are not normalised over the group. A generation with 0 drops out of this loss, as the report
    does with illegal generations; nothing is punished here.

    Args:
        chosen: K, generations per group that may earn it (the report: 5 of 128). A smaller group counts whole.
        by: how they are chosen. "random" draws from torch's own generator. "most_probable" is for comparison: the report found
            that legality then falls again.
    """
    if by == "random":
        keys_BG = torch.rand(rollouts.items_BG.shape).to(rollouts.items_BG.device)
    else:
        keys_BG = rollouts.log_probabilities_BGL.sum(dim=-1)
    return (largest(keys_BG, chosen) & rollouts.legal).float()


def largest(keys_BG: Tensor, count: int) -> Tensor:
    """Which `count` entries of each row are its largest, boolean `[B, G]`; among equal ones the first."""
    order_BG = keys_BG.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(keys_BG, dtype=torch.bool).scatter_(1, order_BG, True)
