"""Balance of experts: their biases move a little after every optimizer step, so that their loads become even."""

import torch
from torch import Tensor, nn

from onerec.model.layers.experts import MixtureOfExperts


class ExpertBalance:
    """Balance all expert layers of a model, and report how evenly they were used. Without experts, this does nothing.

    Loads are counted over a whole optimizer step, with all its micro-batches and processes. So the biases do not depend on how
    a batch is split.

    Args:
        model: the bare model, without a wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
        self.seen: list[Tensor] = []

    def step(self) -> None:
        """Move the biases by the loads of the latest optimizer step."""
        if not self.layers:
            return
        counted = [layer.take_loads() for layer in self.layers]
        together = torch.cat(counted)  # one message for all layers
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(together)
        loads = list(together.split([len(loads_E) for loads_E in counted]))
        for layer, loads_E in zip(self.layers, loads, strict=True):
            layer.balance(loads_E)
        self.seen = loads if not self.seen else [old + new for old, new in zip(self.seen, loads, strict=True)]

    def figures(self) -> dict[str, float]:
        """`expert_load` since the last call: load of the busiest expert over the mean load, in the worst layer. 1 is even."""
        seen, self.seen = self.seen, []
        if not seen:
            return {}
        return {"expert_load": max(float(loads_E.max() / loads_E.mean().clamp(min=1e-9)) for loads_E in seen)}
