"""Draws of the next code for a group of generations: truncation of the distribution, and sampling with or without replacement.

Draws use the Gumbel trick. Add independent Gumbel noise to log-probabilities: the largest sum is an exact sample, and the G
largest are G samples without replacement (stochastic beam search; Kool, van Hoof and Welling, arXiv 1903.06059).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truncation:
    """Turns a model's distribution into the one to sample from.

    It applies, in this order: the temperature, which divides log-probabilities; `top_k`, which keeps the k largest; and `top_p`,
    which keeps the fewest largest ones whose probabilities sum to p or more (nucleus sampling, arXiv 1904.09751). The remaining
    probabilities are normalised. At least one option stays.

    Attributes:
        temperature: above 0; 1 changes nothing.
        top_k: number of options to keep; None: all.
        top_p: a probability above 0; None or 1: keep all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __call__(self, log_probabilities: Tensor) -> Tensor:
        """Log-probabilities to sample from, over the last axis.

        Args:
            log_probabilities: `[..., M]`, -inf for forbidden options; need not be normalised. A row of only -inf stays so.
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
    """Independent standard Gumbel variates with the shape and device of `like`, drawn on the device of `rng`."""
    exponential = torch.empty(like.shape, dtype=like.dtype, device=rng.device).exponential_(generator=rng)
    return -exponential.clamp(min=torch.finfo(like.dtype).tiny).log().to(like.device)


class Draw(Protocol):
    """Extends the prefixes of a batch by one code. It is called once per level and may keep state between levels."""

    def __call__(self, log_probabilities_BKM: Tensor) -> tuple[Tensor, Tensor]:
        """Choose among the M options of each of K prefixes.

        Returns:
            for each of the K' longer prefixes the prefix that it extends and the option that it takes, int64 `[B, K']` each.
        """
        ...


@dataclass(frozen=True)
class WithReplacement:
    """G independent samples, which may repeat."""

    group_size: int
    rng: torch.Generator

    def __call__(self, log_probabilities_BKM: Tensor) -> tuple[Tensor, Tensor]:
        users, prefixes, _ = log_probabilities_BKM.shape
        from_G = torch.arange(self.group_size, device=log_probabilities_BKM.device).clamp(max=prefixes - 1)
        options_BGM = log_probabilities_BKM[:, from_G]
        return from_G.expand(users, -1), (options_BGM + gumbel_noise(options_BGM, self.rng)).argmax(dim=-1)


class WithoutReplacement:
    """G different samples, in the order of sequential draws without replacement; the first is an exact sample.

    Each prefix carries the largest perturbed log-probability of its continuations. The next level draws perturbed
    log-probabilities conditioned on this maximum (the paper's Algorithm 1, in the numerically stable form of its Appendix B.3).
    If fewer than G samples exist, the surplus ones contain an option with log-probability -inf.
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
    """Gumbel variates conditioned on the largest of each row being `largest_BK`."""
    below_BKM = perturbed_BKM - perturbed_BKM.amax(dim=-1, keepdim=True)
    # log(1 - exp(below)), in the form that loses no digits.
    rest_BKM = torch.where(below_BKM > -0.693, (-below_BKM.expm1()).log(), (-below_BKM.exp()).log1p())
    shift_BKM = largest_BK[..., None] - perturbed_BKM + rest_BKM
    given_BKM = largest_BK[..., None] - shift_BKM.clamp(min=0) - (-shift_BKM.abs()).exp().log1p()
    impossible_BKM = (perturbed_BKM == -torch.inf) | (largest_BK[..., None] == -torch.inf)
    return given_BKM.masked_fill(impossible_BKM, -torch.inf)
