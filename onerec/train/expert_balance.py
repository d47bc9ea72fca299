"""Even load for the experts of a model: one small move of their biases after every optimizer step."""

import torch
from torch import Tensor, nn

from onerec.model.layers.experts import MixtureOfExperts


class ExpertBalance:
    """Balances all expert layers of a model and says how evenly they were used. A model without experts costs nothing.

    Loads are counted over a whole optimizer step, all its micro-batches and all processes, so that neither changes the biases.

    Args:
        model: the bare model, without a wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
        self.seen: list[Tensor] = []

    def step(self) -> None:
        """Move the biases by the loads of the optimizer step that has just been taken."""
        if not self.layers:
            return
        counted = [layer.take_loads() for layer in self.layers]
        # One message for all layers.
        together = torch.cat(counted)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(together)
        loads = list(together.split([len(loads_E) for loads_E in counted]))
        for layer, loads_E in zip(self.layers, loads, strict=True):
            layer.balance(loads_E)
        self.seen = loads if not self.seen else [old + new for old, new in zip(self.seen, loads, strict=True)]

    def figures(self) -> dict[str, float]:
        """`expert_load`: load of the busiest expert over the mean, in the worst layer, since the last call; 1 is even."""
        seen, self.seen = self.seen, []
        if not seen:
            return {}
        return {"expert_load": max(float(loads_E.max() / loads_E.mean().clamp(min=1e-9)) for loads_E in seen)}
