"""1 for the item that was taken next, 0 for everything else: the rule that open systems reward by (MiniOneRec, 2510.24431)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class HitReward:
    """Whether a generation is the target, as a number. Generations that are no item score 0, like any miss."""

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`, 0 or 1."""
        return hits(prompts, rollouts).float()


def hits(prompts: Requests, rollouts: Rollouts) -> Tensor:
    """Which generations are the item that the prompt's user took next, boolean `[B, G]`."""
    targets_B = torch.as_tensor(prompts.targets_C, dtype=torch.int64, device=rollouts.items_BG.device)
    return rollouts.items_BG == targets_B[:, None]
