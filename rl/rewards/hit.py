"""1 for the item that was taken next, 0 for everything else: the rule of open systems such as MiniOneRec (arXiv 2510.24431)."""

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts


def hit_reward(prompts: Requests, rollouts: Rollouts) -> Tensor:
    """Rewards float32 `[B, G]`: 1 for the target, 0 for a miss. A generation that is no item is a miss."""
    return hits(prompts, rollouts).float()


def hits(prompts: Requests, rollouts: Rollouts) -> Tensor:
    """Which generations are the item that the prompt's user took next, boolean `[B, G]`."""
    targets_B = torch.as_tensor(prompts.targets_C, dtype=torch.int64, device=rollouts.items_BG.device)
    return rollouts.items_BG == targets_B[:, None]
