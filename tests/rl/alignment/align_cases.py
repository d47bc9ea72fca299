"""Small generators with prompts, windows, exposures and a planted reward, for tests of alignment."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from generator_cases import make_generator
from torch import Tensor

from onerec.data.requests import Requests
from onerec.data.split import Sequences
from onerec.data.windows import Windows, every_position_windows
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.generator import Generator
from rl.alignment.exposures import Exposures
from rl.alignment.loop import AlignLoop
from rl.alignment.rewards import AlignRewards
from rl.config.alignment import AlignConfig
from rl.rewards.reward import Reward
from rl.rollouts.policy import batch_of
from rl.rollouts.rollouts import Rollouts

USERS, ITEMS = 24, 60
TIMED = {"seconds", "rollout_share"}
KINDS: dict[str, dict[str, Any]] = {
    "encoder_decoder": {"item_loss": 0.5},
    "lazy": {"decoder": "lazy", "encoder_layers": 0, "item_head": False},
}
EXPOSURES_ALONE = {"objective": "gbpo", "rewards": {"p_score": 0.0}, "exposures": {"weight": 1.0, "batch_size": 8}}
FREE = {"softmax": "full", "item_head": False, "lookahead": False}


def make_prompts(users: int = USERS) -> Requests:
    """Histories drawn at random; the target of user n is item n."""
    draw = np.random.default_rng(3)
    offsets = np.cumsum([0, *draw.integers(1, 9, size=users)])
    asked = Requests.of_histories(draw.integers(0, ITEMS, size=offsets[-1]).astype(np.int32), offsets)
    return replace(asked, targets_C=np.arange(users, dtype=np.int32))


def make_windows() -> Windows:
    draw = np.random.default_rng(4)
    offsets = np.cumsum([0, *draw.integers(3, 9, size=USERS)])
    return every_position_windows(draw.integers(0, ITEMS, size=offsets[-1]).astype(np.int32), offsets, 12)


def likes_odd_items(prompts: Requests, rollouts: Rollouts) -> Tensor:
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


def small_exposures(advantages_N: np.ndarray, count: int = 90) -> Exposures:
    """Exposures of items with an advantage, drawn at random; histories are a user's first events."""
    draw = np.random.default_rng(8)
    offsets = np.cumsum([0, *draw.integers(3, 9, size=USERS)])
    items = draw.integers(0, ITEMS, size=offsets[-1]).astype(np.int32)
    sequences = Sequences(pl.Series(range(USERS)), items, offsets, np.zeros(len(items), np.int8))
    users = draw.integers(0, USERS, size=count)
    shown = draw.choice(np.flatnonzero(advantages_N), size=count).astype(np.int32)
    ends = offsets[users] + draw.integers(1, 4, size=count)
    return Exposures(sequences, None, np.arange(count), users, shown, advantages_N[shown], ends, ends)


def likes_and_dislikes() -> Exposures:
    """Half of the items watched long, half disliked."""
    return small_exposures(np.where(np.arange(ITEMS) % 2 == 1, 1, -1).astype(np.int8))


def make_loop(
    folder: Path,
    policy: Generator,
    config: AlignConfig,
    reward: Reward = likes_odd_items,
    exposures: Exposures | None = None,
) -> AlignLoop:
    rewards = AlignRewards({"odd": reward}, {"odd": 1.0}) if config.rewards.used else None
    return AlignLoop(policy, make_windows(), make_prompts(), rewards, config, folder, seed=7, exposures=exposures)


def curves(folder: Path) -> list[dict[str, float]]:
    """What a loop has logged, without the figures that depend on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


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
