"""Beam search over the item trie, for all users of a batch at once.

The context is encoded once per user and never copied per beam; the decoder keeps a cache; a code that leads to no item gets
no probability. What comes back are items with their log-probabilities: not estimates, the very numbers that teacher forcing
gives for those items. With a beam at least as wide as the catalogue it ranks every item.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from onerec.decode.item_trie import ItemTrie

Cache = TypeVar("Cache")


@dataclass(frozen=True)
class Children:
    """The legal continuations of states of one level, padded to the widest branch M.

    Attributes:
        log_probabilities: float32 `[..., M]`, -inf where padded.
        codes: int64 `[..., M]`, 0 where padded.
        states: int64 `[..., M]`, the trie state that each code leads to.
    """

    log_probabilities: Tensor
    codes: Tensor
    states: Tensor


class StepDecoder(Protocol[Cache]):
    """What beam search needs of a model that is bound to an encoded batch of contexts."""

    def start(self) -> tuple[Tensor, Cache]:
        """Hidden states `[B, 1, D]` before the first code and the cache that belongs to them."""
        ...

    def step(self, codes_BK: Tensor, parents_BK: Tensor, level: int, cache: Cache) -> tuple[Tensor, Cache]:
        """Hidden states `[B, K, D]` before the code of `level`, after beams `parents_BK` of the last step chose `codes_BK`."""
        ...

    def child_log_probabilities(self, hidden_BKD: Tensor, states_BK: Tensor, level: int) -> Children:
        """The legal continuations of every beam with their log-probabilities."""
        ...


@dataclass(frozen=True)
class Beams:
    """Items found, best first.

    Attributes:
        items_BK: int64, -1 where a user has fewer than K items to offer.
        log_probabilities_BK: float32, `log p(item | context)` in nats, -inf where there is no item.
    """

    items_BK: Tensor
    log_probabilities_BK: Tensor


def beam_search(
    decoder: StepDecoder[Cache],
    trie: ItemTrie,
    *,
    beam_width: int,
    excluded_BS: Tensor | None = None,
) -> Beams:
    """Find each user's most probable items.

    Args:
        decoder: a model bound to the batch's contexts.
        beam_width: hypotheses kept per user after each level, K. A level that offers fewer keeps fewer.
        excluded_BS: int64 items that a user must not get (say, those already seen), padded with -1. They are removed when
            the last code is chosen; the probabilities of the others stay as they are.

    Returns:
        Beams sorted by log-probability.
    """
    hidden_BKD, cache = decoder.start()
    users = len(hidden_BKD)
    states_BK = torch.zeros((users, 1), dtype=torch.long, device=hidden_BKD.device)
    scores_BK = torch.zeros((users, 1), device=hidden_BKD.device)
    for level in range(trie.levels):
        children = decoder.child_log_probabilities(hidden_BKD, states_BK, level)
        steps_BKM = children.log_probabilities
        if level == trie.levels - 1 and excluded_BS is not None:
            # A padded child points at some state; only its item's number is read here, and its score is -inf already.
            items_BKM = trie.items_of(children.states.clamp(min=_first_leaf(trie)))
            steps_BKM = steps_BKM.masked_fill(_contains(excluded_BS, items_BKM), -torch.inf)
        branch = steps_BKM.shape[-1]
        scores_BX = (scores_BK[..., None] + steps_BKM).flatten(1)
        scores_BK, chosen_BK = scores_BX.topk(min(beam_width, scores_BX.shape[1]), dim=1)
        states_BK = children.states.flatten(1).gather(1, chosen_BK)
        # A dead beam (score -inf) was reached through padding; any state of this level lets it go on harmlessly.
        states_BK = torch.where(scores_BK > -torch.inf, states_BK, states_BK[:, :1])
        if level < trie.levels - 1:
            codes_BK = children.codes.flatten(1).gather(1, chosen_BK)
            hidden_BKD, cache = decoder.step(codes_BK, chosen_BK // branch, level + 1, cache)
    found_BK = scores_BK > -torch.inf
    items_BK = trie.items_of(torch.where(found_BK, states_BK, _first_leaf(trie)))
    return Beams(torch.where(found_BK, items_BK, -1), scores_BK)


def _first_leaf(trie: ItemTrie) -> int:
    return len(trie.codes) - trie.item_count + 1


def _contains(sets_BS: Tensor, items_BKM: Tensor) -> Tensor:
    """Whether each user's items are in that user's set: a binary search, so memory stays at B x (S + K x M)."""
    if sets_BS.shape[1] == 0:
        return torch.zeros_like(items_BKM, dtype=torch.bool)
    sorted_BS = sets_BS.sort(dim=1).values
    flat_BX = items_BKM.flatten(1)
    places_BX = torch.searchsorted(sorted_BS, flat_BX).clamp(max=sorted_BS.shape[1] - 1)
    return (sorted_BS.gather(1, places_BX) == flat_BX).view_as(items_BKM)
