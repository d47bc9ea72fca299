"""How a group of generations grows by one code: from which distribution codes are drawn, and with or without repeats.

Drawing is by the Gumbel trick: the largest of log-probabilities with independent Gumbel noise is an exact sample, and the G
largest are G samples without replacement (stochastic beam search; Kool, van Hoof and Welling, arXiv 1903.06059).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truncation:
    """From a model's distribution to the one that is sampled from.

    In this order: log-probabilities are divided by the temperature; all but the `top_k` largest go; of what then remains the
    smallest set of largest ones stays whose probabilities sum up to `top_p` or more (nucleus sampling, arXiv 1904.09751). What
    stays is normalised. One option always stays.

    Attributes:
        temperature: above 0; 1 changes nothing.
        top_k: options that stay at most; None for all.
        top_p: a probability above 0; None or 1 for all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __call__(self, log_probabilities: Tensor) -> Tensor:
        """Log-probabilities that are sampled from, over the last axis.

        Args:
            log_probabilities: `[..., M]`, -inf for what must not be chosen; need not be normalised. A row of nothing but -inf
                stays one.
        """
        kept = (log_probabilities / self.temperature).log_softmax(dim=-1)
        if self.top_k is not None and self.top_k < kept.shape[-1]:
            largest, places = kept.topk(self.top_k, dim=-1)
            kept = torch.full_like(kept, -torch.inf).scatter(-1, places, largest).log_softmax(dim=-1)
        if self.top_p is not None and self.top_p < 1:
            ordered, places = kept.sort(dim=-1, descending=True)
            sums = ordered.exp().cumsum(dim=-1)
            ordered[..., 1:] = ordered[..., 1:].masked_fill(sums[..., :-1] >= self.top_p, -torch.inf)
            kept = torch.empty_like(kept).scatter(-1, places, ordered).log_softmax(dim=-1)
        return kept.masked_fill(kept.isnan(), -torch.inf)


def gumbel_noise(like: Tensor, rng: torch.Generator) -> Tensor:
    """Independent standard Gumbel variates in the shape of `like` and on its device, drawn on the device of `rng`."""
    exponential = torch.empty(like.shape, dtype=like.dtype, device=rng.device).exponential_(generator=rng)
    return -exponential.clamp(min=torch.finfo(like.dtype).tiny).log().to(like.device)


class Draw(Protocol):
    """One batch's way to grow; called once a level, it may remember the levels before."""

    def __call__(self, log_probabilities_BKM: Tensor) -> tuple[Tensor, Tensor]:
        """Choose among the M options of each of K prefixes.

        Returns:
            for each longer prefix the one it grows from, and the option it takes, int64 `[B, K']`.
        """
        ...


@dataclass(frozen=True)
class WithReplacement:
    """G independent samples; one may come more than once."""

    group_size: int
    rng: torch.Generator

    def __call__(self, log_probabilities_BKM: Tensor) -> tuple[Tensor, Tensor]:
        users, prefixes, _ = log_probabilities_BKM.shape
        from_G = torch.arange(self.group_size, device=log_probabilities_BKM.device).clamp(max=prefixes - 1)
        options_BGM = log_probabilities_BKM[:, from_G]
        return from_G.expand(users, -1), (options_BGM + gumbel_noise(options_BGM, self.rng)).argmax(dim=-1)


class WithoutReplacement:
    """G different samples in the order in which they would be drawn one after the other; the first is an exact sample.

    Each prefix carries the largest perturbed log-probability of all that lies behind it. Those of its continuations are drawn
    given that their largest is this one (the paper's Algorithm 1, in the numerically stable form of its Appendix B.3). Where
    fewer than G are left, further ones have options with log-probability -inf in them.
    """

    def __init__(self, group_size: int, rng: torch.Generator) -> None:
        self.group_size, self.rng = group_size, rng
        self._sums_BK, self._largest_BK = torch.zeros(1, 1), torch.zeros(1, 1)

    def __call__(self, log_probabilities_BKM: Tensor) -> tuple[Tensor, Tensor]:
        device, options = log_probabilities_BKM.device, log_probabilities_BKM.shape[2]
        sums_BKM = self._sums_BK.to(device)[..., None] + log_probabilities_BKM
        perturbed_BKM = sums_BKM + gumbel_noise(sums_BKM, self.rng)
        given_BX = _given_largest(perturbed_BKM, self._largest_BK.to(device)).flatten(1)
        self._largest_BK, chosen_BG = given_BX.topk(min(self.group_size, given_BX.shape[1]), dim=1)
        self._sums_BK = sums_BKM.flatten(1).gather(1, chosen_BG)
        return chosen_BG.div(options, rounding_mode="floor"), chosen_BG % options


def _given_largest(perturbed_BKM: Tensor, largest_BK: Tensor) -> Tensor:
    """Gumbel variates shifted so that the largest of each row is `largest_BK` and the others are as they are given that."""
    below_BKM = perturbed_BKM - perturbed_BKM.amax(dim=-1, keepdim=True)
    # log(1 - exp(below)), by whichever form loses no digits.
    rest_BKM = torch.where(below_BKM > -0.693, (-below_BKM.expm1()).log(), (-below_BKM.exp()).log1p())
    shift_BKM = largest_BK[..., None] - perturbed_BKM + rest_BKM
    given_BKM = largest_BK[..., None] - shift_BKM.clamp(min=0) - (-shift_BKM.abs()).exp().log1p()
    impossible_BKM = (perturbed_BKM == -torch.inf) | (largest_BK[..., None] == -torch.inf)
    return given_BKM.masked_fill(impossible_BKM, -torch.inf)
