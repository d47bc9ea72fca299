"""A running average of the weights: smoother than any single step's, and usually a little better on new users."""

import copy

import torch
from torch import nn


class AveragedWeights:
    """Exponential moving average of a model's parameters, kept in a model of its own.

    Early steps count less history, `decay_t = min(decay, (1 + t) / (10 + t))`, so that the random start is soon forgotten.

    Args:
        model: the model that is trained; it is copied.
        decay: weight of the past at every step, 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model), decay
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights that optimizer step number `step` (from 1) left."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
