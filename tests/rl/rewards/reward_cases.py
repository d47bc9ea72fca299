"""Prompts and rollouts made by hand, which several test files of rewards share."""

import torch
from request_cases import requests_of

from onerec.data.requests import Requests
from rl.rollouts.rollouts import Rollouts


def make_prompts(targets: list[int]) -> Requests:
    """One user per target, each with item 0 as the history."""
    return requests_of([[0]] * len(targets), targets)


def make_rollouts(items: list[list[int]], log_probabilities: list[list[float]] | None = None) -> Rollouts:
    """Groups of items, -1 where the codes are no item's; two code levels that share a log-probability evenly."""
    items_BG = torch.tensor(items)
    log_BG = torch.zeros(items_BG.shape) if log_probabilities is None else torch.tensor(log_probabilities)
    codes_BGL = torch.stack([items_BG.clamp(min=0), items_BG.clamp(min=0)], dim=-1)
    return Rollouts(codes_BGL, items_BG, torch.stack([log_BG / 2, log_BG / 2], dim=-1))
