"""A small trained-looking generator with prompts, windows and a planted reward, for tests of alignment."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from generator_cases import make_generator
from torch import Tensor

from rl.alignment.config import AlignConfig
from onerec.data.split import Cases
from onerec.data.windows import Windows, every_position_windows
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.generator import Generator
from rl.alignment.loop import AlignLoop
from rl.alignment.rewards import AlignRewards
from rl.rollouts.policy import batch_of
from rl.rollouts.prompts import Prompts
from rl.rewards.combined import combine
from rl.rollouts.rollouts import Rollouts

USERS, ITEMS = 24, 60
KINDS: dict[str, dict[str, Any]] = {
    "encoder_decoder": {"item_loss": 0.5},
    "lazy": {"decoder": "lazy", "encoder_layers": 0, "item_head": False},
}
FREE = {"softmax": "full", "item_head": False, "lookahead": False}


def make_prompts() -> Prompts:
    draw = np.random.default_rng(3)
    offsets = np.cumsum([0, *draw.integers(1, 9, size=USERS)])
    users = np.arange(USERS, dtype=np.int32)
    return Prompts(Cases(users, offsets, draw.integers(0, ITEMS, size=offsets[-1]).astype(np.int32), users))


def make_windows() -> Windows:
    draw = np.random.default_rng(4)
    offsets = np.cumsum([0, *draw.integers(3, 9, size=USERS)])
    return every_position_windows(draw.integers(0, ITEMS, size=offsets[-1]).astype(np.int32), offsets, 12)


def likes_odd_items(prompts: Prompts, rollouts: Rollouts) -> Tensor:
    """1 for items with an odd number, 0 for others, -1 for what is no item."""
    return torch.where(rollouts.legal, (rollouts.items_BG % 2).float(), -1.0)


def settings(**changed: Any) -> AlignConfig:
    quick = {
        "rollouts": {"group_size": 8},
        "batch_size": 8,
        "steps": 6,
        "learning_rate": 0.003,
        "warmup_steps": 0,
        "refresh_every": 2,
        "checkpoint_every": 2,
        "next_code": {"batch_size": 8},
    }
    return AlignConfig(**{**quick, **changed})


def make_loop(folder: Path, policy: Generator, config: AlignConfig, reward: Any = likes_odd_items) -> AlignLoop:
    rewards = AlignRewards(combine({"odd": reward}, {"odd": 1.0}))
    return AlignLoop(policy, make_windows(), make_prompts(), rewards, config, folder, seed=7)


@torch.no_grad()
def expected_reward(policy: Generator) -> float:
    """The exact mean of the planted reward under the policy."""
    items = torch.arange(ITEMS).expand(USERS, -1)
    shares = item_log_probabilities(policy.eval(), batch_of(policy, make_prompts()), items).exp()
    return float((shares * (items % 2)).sum(dim=1).mean())


def policy_of(kind: str, **changed: Any) -> Generator:
    return make_generator(**{**KINDS[kind], "dropout": 0.1, **changed})


def weights_of(policy: Generator) -> Tensor:
    return torch.cat([one.detach().flatten() for one in policy.parameters()])
