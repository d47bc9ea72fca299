"""What every reward is asked and answers."""

from typing import Protocol

from torch import Tensor

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts


class Reward(Protocol):
    """A number for every generation of a group; larger is better."""

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`, finite everywhere, also where `rollouts.items_BG` is -1 (no item has these codes)."""
        ...
