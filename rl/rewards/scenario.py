"""Holding a class of items down: the OneRec Technical Report's industrial scenario reward (arXiv 2506.13695, viral content).

While the class makes up more than a share f of the generations, the rewards of its items are multiplied by a factor below one.
"""

import polars as pl
import torch
from torch import Tensor

from onerec.data.checks import nearest_name
from onerec.data.contract import Dataset
from onerec.errors import UserError
from rl.rollouts.rollouts import Rollouts


def hold_class_down(
    rewards_BG: Tensor, rollouts: Rollouts, in_class_N: Tensor, *, factor: float, most: float
) -> Tensor:
    """Rewards `[B, G]` in which items of a class earn less while there are too many of them.

    A reward below zero stays as it is, because a smaller penalty would favour the class.

    Args:
        in_class_N: boolean, for each item of the catalogue.
        factor: alpha, from 0 to below 1. The report gives no value for it or for f.
        most: f, the largest share of the legal generations that the class may have.
    """
    in_class_BG = in_class_N.to(rewards_BG.device)[rollouts.items_BG.clamp(min=0)] & rollouts.legal
    if int(in_class_BG.sum()) / max(int(rollouts.legal.sum()), 1) <= most:
        return rewards_BG
    return torch.where(in_class_BG & (rewards_BG > 0), rewards_BG * factor, rewards_BG)


def class_of_items(dataset: Dataset, column: str, value: str) -> Tensor:
    """The items whose `column` holds `value`, boolean `[N]`; a cell with several values holds each of them.

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
