"""The learned reward: the P-Score of each generation, and zero for one that is no item."""

import numpy as np
import torch
from reward_cases import make_prompts, make_rollouts

from onerec.data.requests import Requests
from rl.rewards.p_score import PScoreReward


class Halves:
    """Stands for a preference score: item n has 1 / (n + 2), and what is asked for a missing item is any number."""

    def p_scores(self, requests: Requests, items_CX: np.ndarray) -> np.ndarray:
        return (1 / (np.maximum(items_CX, 0) + 2)).astype(np.float32)


def test_a_generation_that_is_no_item_gets_zero() -> None:
    rewards = PScoreReward(Halves())(make_prompts([1, 2]), make_rollouts([[4, -1, 0], [-1, -1, 2]]))  # type: ignore[arg-type]
    assert rewards.dtype == torch.float32
    torch.testing.assert_close(rewards, torch.tensor([[1 / 6, 0, 1 / 2], [0, 0, 1 / 4]]))
