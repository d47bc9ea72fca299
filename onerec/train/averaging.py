"""A running average of the weights: smoother than the weights of any single step, and usually a little better on new users."""

import copy

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Exponential moving average of a model's parameters and saved buffers, kept in a copy of the model.

    The decay grows with the step, `decay_t = min(decay, (1 + t) / (10 + t))`, so that the random start is soon forgotten.

    Args:
        model: the model in training.
        decay: weight of the past at every step, 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model), decay
        self.model.requires_grad_(False)
        saved = set(model.state_dict())
        # Buffers may be learnt without being parameters, such as the biases that balance experts.
        self.buffer_names = [
            name for name, buffer in model.named_buffers() if name in saved and buffer.is_floating_point()
        ]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimizer step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._tensors(self.model), self._tensors(model), 1 - decay)

    def _tensors(self, model: nn.Module) -> list[Tensor]:
        buffers = dict(model.named_buffers())
        return [*model.parameters(), *(buffers[name] for name in self.buffer_names)]
