"""Groups of generations and their log-probabilities under the policy that made them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """G generations for each of B users.

    Attributes:
        codes_BGL: int64, the codes that were chosen.
        items_BG: int64, the item that has them; -1 where none has.
        log_probabilities_BGL: float32, of each code given those before it, in nats, under the policy that chose it.
    """

    codes_BGL: Tensor
    items_BG: Tensor
    log_probabilities_BGL: Tensor

    @property
    def legal(self) -> Tensor:
        """Whether the codes are an item's, boolean `[B, G]`."""
        return self.items_BG >= 0
