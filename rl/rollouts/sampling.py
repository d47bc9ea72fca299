"""Sampling from a generator, level by level, for all users of a batch and all generations at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from onerec.decode.beam_search import Cache, StepDecoder
from onerec.decode.item_trie import ItemTrie
from onerec.model.bound_generator import BoundGenerator
from rl.rollouts.draws import Draw, Truncation


@dataclass(frozen=True)
class _Stepped:
    """The trie states that the decoder steps, for K prefixes.

    A prefix with a single item behind it is settled: its remaining codes have probability 1.

    Attributes:
        states_BQ: trie states to step.
        prefixes_BQ: for each state, a prefix that is in it.
        places_BK: for each prefix, the place of its state in `states_BQ`.
        settled_BK: boolean, prefixes that need no step.
    """

    states_BQ: Tensor
    prefixes_BQ: Tensor
    places_BK: Tensor
    settled_BK: Tensor

    @classmethod
    def every(cls, states_BK: Tensor) -> "_Stepped":
        """One state for each prefix."""
        every_BK = torch.arange(states_BK.shape[1], device=states_BK.device).expand_as(states_BK)
        return cls(states_BK, every_BK, every_BK, torch.zeros_like(states_BK, dtype=torch.bool))

    @classmethod
    def distinct(cls, states_BK: Tensor, trie: ItemTrie) -> "_Stepped":
        """Each state once, however many prefixes share it, without settled ones."""
        settled_BK = trie.settled[states_BK]
        beyond = len(trie.settled)
        sorted_BK, order_BK = states_BK.masked_fill(settled_BK, beyond).sort(dim=1)
        first_BK = sorted_BK < beyond
        first_BK[:, 1:] &= sorted_BK[:, 1:] != sorted_BK[:, :-1]
        stepped = max(1, int(first_BK.sum(dim=1).max()))
        places_BK = torch.zeros_like(order_BK).scatter(1, order_BK, (first_BK.cumsum(dim=1) - 1).clamp(min=0))
        firsts_BQ = first_BK.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :stepped]
        prefixes_BQ = order_BK.gather(1, firsts_BQ)
        return cls(states_BK.gather(1, prefixes_BQ), prefixes_BQ, places_BK, settled_BK)

    def options(self, log_probabilities_BQM: Tensor) -> Tensor:
        """The log-probabilities of every prefix's options, `[B, K, M]`, from those of the stepped states."""
        width = log_probabilities_BQM.shape[2]
        options_BKM = log_probabilities_BQM.gather(1, self.places_BK[..., None].expand(-1, -1, width))
        certain_M = torch.full((width,), -torch.inf, device=options_BKM.device)
        certain_M[0] = 0
        return torch.where(self.settled_BK[..., None], certain_M, options_BKM)


def sample_items(
    decoder: StepDecoder[Cache], trie: ItemTrie, group_size: int, truncation: Truncation, make_draw: Callable[[], Draw]
) -> tuple[Tensor, Tensor]:
    """Sample among legal codes, so that every generation is an item.

    Args:
        decoder: a model bound to the batch's histories.
        trie: of the item codes.
        group_size: G.
        truncation: applied to the model's distribution over the legal continuations of a prefix.
        make_draw: makes the draw of G generations, once for each part of the users that is decoded together.

    Returns:
        items int64 `[B, G]`; and float32 `[B, G, L]`, the log-probability of each code given the codes before it in the
        distribution that it was drawn from, in nats. If nothing is left to draw, the item is -1 and the log-probabilities are
        -inf. A catalogue of fewer than G items gives fewer columns.
    """
    hidden_B1D, cache = decoder.start()
    at_once, found = decoder.users_at_once(group_size), []
    for first in range(0, len(hidden_B1D), at_once):
        users = slice(first, first + at_once)
        part, part_cache = decoder.part(users, cache)
        walk = _Walk(part, trie, truncation, make_draw())
        found.append(walk.to_items(hidden_B1D[users], part_cache))
    return torch.cat([items for items, _ in found]), torch.cat([levels for _, levels in found])


@dataclass(frozen=True)
class _Walk(Generic[Cache]):
    """The walk from the trie's root to items, for users that are decoded together."""

    decoder: StepDecoder[Cache]
    trie: ItemTrie
    truncation: Truncation
    draw: Draw

    def to_items(self, hidden_BQD: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """Items `[B, K]` and log-probabilities `[B, K, L]`, from the hidden states before the first code."""
        trie = self.trie
        states_BK = torch.zeros(hidden_BQD.shape[:2], dtype=torch.long, device=hidden_BQD.device)
        stepped = _Stepped.every(states_BK)
        levels_BKL = torch.zeros((*states_BK.shape, 0), device=hidden_BQD.device)
        for level in range(trie.levels):
            children = self.decoder.child_log_probabilities(hidden_BQD, stepped.states_BQ, level)
            options_BKM = stepped.options(self.truncation(children.log_probabilities))
            parents_BK, places_BK = self.draw(options_BKM)
            taken_BK = _rows(options_BKM, parents_BK).gather(2, places_BK[..., None])
            levels_BKL = torch.cat([_rows(levels_BKL, parents_BK), taken_BK], dim=2)
            # An impossible draw may point at padding; every state has a first child.
            places_BK = torch.where(taken_BK[..., 0] > -torch.inf, places_BK, 0)
            states_BK = trie.offsets[states_BK.gather(1, parents_BK)] + places_BK + 1
            if level + 1 < trie.levels:
                came_from_BK = stepped.places_BK.gather(1, parents_BK)
                # On other devices, shapes must not depend on the samples.
                on_cpu = states_BK.device.type == "cpu"
                stepped = _Stepped.distinct(states_BK, trie) if on_cpu else _Stepped.every(states_BK)
                codes_BQ = trie.codes[stepped.states_BQ - 1].long()
                parents_BQ = came_from_BK.gather(1, stepped.prefixes_BQ)
                hidden_BQD, cache = self.decoder.step(codes_BQ, parents_BQ, level + 1, cache)
        dead_BK = (levels_BKL == -torch.inf).any(dim=2)
        return trie.items_of(states_BK).masked_fill(dead_BK, -1), levels_BKL.masked_fill(dead_BK[..., None], -torch.inf)


def sample_codes(
    bound: BoundGenerator, group_size: int, truncation: Truncation, make_draw: Callable[[], Draw]
) -> tuple[Tensor, Tensor]:
    """Sample codes, int64 `[B, G, L]`, among all of every level, whether they lead to an item or not.

    The arguments and log-probabilities are those of `sample_items`; draws are with replacement.

    Raises:
        UserError: the generator has no distribution over all codes (`BoundGenerator.code_log_probabilities`).
    """
    hidden_B1D, cache = bound.start()
    at_once, found = bound.users_at_once(group_size), []
    for first in range(0, len(hidden_B1D), at_once):
        users = slice(first, first + at_once)
        part, past = bound.part(users, cache)
        hidden_BKD, draw, codes, levels = hidden_B1D[users], make_draw(), [], []
        for level in range(bound.generator.levels):
            options_BKV = truncation(part.code_log_probabilities(hidden_BKD, level))
            parents_BG, codes_BG = draw(options_BKV)
            codes.append(codes_BG)
            levels.append(_rows(options_BKV, parents_BG).gather(2, codes_BG[..., None])[..., 0])
            if level + 1 < bound.generator.levels:
                hidden_BKD, past = part.step(codes_BG, parents_BG, level + 1, past)
        found.append((torch.stack(codes, dim=2), torch.stack(levels, dim=2)))
    return torch.cat([codes_BGL for codes_BGL, _ in found]), torch.cat([levels_BGL for _, levels_BGL in found])


def _rows(values_BKX: Tensor, rows_BG: Tensor) -> Tensor:
    """The chosen rows of each user, `[B, G, X]`."""
    return values_BKX.gather(1, rows_BG[..., None].expand(-1, -1, values_BKX.shape[2]))
