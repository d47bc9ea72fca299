"""Prompts and rollouts made by hand, which several test files of rewards share."""

import numpy as np
import torch

from onerec.data.split import Cases
from rl.rollouts.prompts import Prompts
from rl.rollouts.rollouts import Rollouts


def make_prompts(targets: list[int]) -> Prompts:
    """One user per target, each with item 0 as the history."""
    count = len(targets)
    return Prompts(
        Cases(
            np.arange(count, dtype=np.int32),
            np.arange(count + 1),
            np.zeros(count, np.int32),
            np.array(targets, np.int32),
        )
    )


def make_rollouts(items: list[list[int]], log_probabilities: list[list[float]] | None = None) -> Rollouts:
    """Groups of items, -1 where the codes are no item's; two code levels that share a log-probability evenly."""
    items_BG = torch.tensor(items)
    log_BG = torch.zeros(items_BG.shape) if log_probabilities is None else torch.tensor(log_probabilities)
    codes_BGL = torch.stack([items_BG.clamp(min=0), items_BG.clamp(min=0)], dim=-1)
    return Rollouts(codes_BGL, items_BG, torch.stack([log_BG / 2, log_BG / 2], dim=-1))
