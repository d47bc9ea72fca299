"""Legality: the OneRec Technical Report's format reward (arXiv 2506.13695), with its random choice of K among G.

Preference optimisation pushes probability away from what it dislikes, and some of that ends on code sequences that no item has.
Rewarding all legal generations, or the most probable ones, teaches what is legal already; a random few of the group are rewarded
instead.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts

Choice = Literal["random", "most_probable"]


@dataclass(frozen=True)
class FormatReward:
    """1 for the legal ones among K chosen generations, 0 for all others.

    These are advantages as they stand: they are not normalised over the group, and what has 0 drops out of this loss, which is
    what the report does with illegal generations. Nothing is ever punished here.

    Attributes:
        chosen: generations per group that count, K (the report: 5 of 128); groups that are smaller count whole.
        by: how they are chosen. "most_probable" is there for comparison; the report found that legality then falls again.
        generator: of the random choice; None draws from torch's own, whose state checkpoints keep.
    """

    chosen: int = 5
    by: Choice = "random"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.chosen < 1:
            raise ValueError(f"at least one generation of a group must count, not {self.chosen}")

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Advantages float32 `[B, G]`, 0 or 1."""
        if self.by == "random":
            keys_BG = torch.rand(rollouts.items_BG.shape, generator=self.generator).to(rollouts.items_BG.device)
        else:
            keys_BG = rollouts.log_probabilities_BGL.sum(dim=-1)
        return (first_by(keys_BG, self.chosen) & rollouts.legal).float()


def first_by(keys_BG: Tensor, count: int) -> Tensor:
    """Which `count` entries of each row are its largest, boolean `[B, G]`; of equal ones the first."""
    order_BG = keys_BG.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(keys_BG, dtype=torch.bool).scatter_(1, order_BG, True)
