"""Holding a class of items down: the OneRec Technical Report's industrial scenario reward (arXiv 2506.13695, viral content).

While the class makes up more than a share f of what is generated, the rewards of its items are multiplied by a factor below one.
"""

from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from onerec.data.checks import nearest_name
from onerec.data.contract import Dataset
from onerec.data.requests import Requests
from onerec.errors import UserError
from rl.rewards.reward import Reward
from rl.rollouts.rollouts import Rollouts


@dataclass(frozen=True)
class ScenarioReward:
    """Another reward, made smaller for the items of a class while there are too many of them.

    A reward below zero stays as it is: multiplied, it would favour the class.

    Attributes:
        reward: what is made smaller.
        in_class_N: boolean, for each item of the catalogue.
        factor: alpha, from 0 to below 1. The report does not say which; neither does it say f.
        most: f, the share of the class among the legal generations of a call from which on it counts as too many.
    """

    reward: Reward
    in_class_N: Tensor
    factor: float
    most: float

    def __post_init__(self) -> None:
        if not 0 <= self.factor < 1 or not 0 <= self.most <= 1:
            raise ValueError(f"a factor from 0 to below 1 and a share from 0 to 1, not {self.factor} and {self.most}")

    def __call__(self, prompts: Requests, rollouts: Rollouts) -> Tensor:
        """Rewards float32 `[B, G]`; those of generations that are no item are untouched."""
        rewards_BG = self.reward(prompts, rollouts)
        in_class_BG = self.in_class(rollouts)
        if class_share(in_class_BG, rollouts.legal) <= self.most:
            return rewards_BG
        return torch.where(in_class_BG & (rewards_BG > 0), rewards_BG * self.factor, rewards_BG)

    def in_class(self, rollouts: Rollouts) -> Tensor:
        """Which generations are items of the class, boolean `[B, G]`."""
        in_class_N = self.in_class_N.to(rollouts.items_BG.device)
        return in_class_N[rollouts.items_BG.clamp(min=0)] & rollouts.legal


def class_share(in_class_BG: Tensor, legal_BG: Tensor) -> float:
    """The share of the class among legal generations; 0 where there are none."""
    return int(in_class_BG.sum()) / max(int(legal_BG.sum()), 1)


def class_of_items(dataset: Dataset, column: str, value: str) -> Tensor:
    """The items whose `column` holds `value`, boolean `[N]`; cells with several values hold each of them.

    Raises:
        UserError: the items have no such column, or none of them has that value.
    """
    named = dataset.spec.items.categorical
    where = dataset.folder / "items.parquet"
    if column not in named:
        raise UserError(f'{where}: "{column}" is no categorical column of the items; {nearest_name(column, named)}')
    cells = pl.col(column).cast(pl.String).str.extract_all(r"[^\s,|]+")
    found_N = dataset.items.select(cells.list.contains(value).fill_null(False))[column]
    if not found_N.any():
        raise UserError(f'{where}, column "{column}": no item has the value "{value}"')
    return torch.from_numpy(found_N.to_numpy().copy())
