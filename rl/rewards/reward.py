"""The interface of rewards."""

from typing import Protocol

from torch import Tensor

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts


class Reward(Protocol):
    """Gives every generation of a group a number; larger is better."""

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`. They must be finite, also where `rollouts.items_BG` is -1 because no item has the codes."""
        ...
