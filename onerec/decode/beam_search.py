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


class StepDecoder(Protocol[Cache]):
    """What beam search needs of a model that is bound to an encoded batch of contexts."""

    def start(self) -> tuple[Tensor, Cache]:
        """Logits `[B, 1, V]` of the first level and the cache that belongs to them."""
        ...

    def step(self, codes_BK: Tensor, parents_BK: Tensor, level: int, cache: Cache) -> tuple[Tensor, Cache]:
        """Logits `[B, K, V]` of `level`, after beams `parents_BK` of the last step chose `codes_BK`."""
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


def child_log_probabilities(logits: Tensor, codes: Tensor, legal: Tensor, softmax: str) -> Tensor:
    """Log-probabilities of each state's children.

    Args:
        logits: `[..., V]`, the level's head.
        codes: `[..., M]`, children as `ItemTrie.children` gives them.
        legal: boolean `[..., M]`.
        softmax: "legal" spreads all probability over the children, "full" over all V codes, of which illegal ones are then
            dropped. It must be what the model was trained with.

    Returns:
        float32 `[..., M]`, -inf where `legal` is false.
    """
    chosen = logits.float().gather(-1, codes).masked_fill(~legal, -torch.inf)
    total = chosen if softmax == "legal" else logits.float()
    return chosen - torch.logsumexp(total, dim=-1, keepdim=True)


def beam_search(
    decoder: StepDecoder[Cache],
    trie: ItemTrie,
    *,
    beam_width: int,
    softmax: str,
    excluded_BS: Tensor | None = None,
) -> Beams:
    """Find each user's most probable items.

    Args:
        decoder: a model bound to the batch's contexts.
        beam_width: hypotheses kept per user after each level, K. A level that offers fewer keeps fewer.
        softmax: see `child_log_probabilities`.
        excluded_BS: int64 items that a user must not get (say, those already seen), padded with -1. They are removed when
            the last code is chosen; the probabilities of the others stay as they are.

    Returns:
        Beams sorted by log-probability.
    """
    logits_BKV, cache = decoder.start()
    users = logits_BKV.shape[0]
    states_BK = torch.zeros((users, 1), dtype=torch.long, device=logits_BKV.device)
    scores_BK = torch.zeros((users, 1), device=logits_BKV.device)
    for level in range(trie.levels):
        codes_BKM, next_BKM, legal_BKM = trie.children(states_BK, level)
        steps_BKM = child_log_probabilities(logits_BKV, codes_BKM, legal_BKM, softmax)
        if level == trie.levels - 1 and excluded_BS is not None:
            excluded = _contains(excluded_BS, trie.items_of(next_BKM.clamp(min=_first_leaf(trie))))
            steps_BKM = steps_BKM.masked_fill(excluded, -torch.inf)
        branch = codes_BKM.shape[-1]
        scores_BX = (scores_BK[..., None] + steps_BKM).flatten(1)
        scores_BK, chosen_BK = scores_BX.topk(min(beam_width, scores_BX.shape[1]), dim=1)
        states_BK = next_BKM.flatten(1).gather(1, chosen_BK)
        # A dead beam (score -inf) was reached through padding; any state of this level lets it go on harmlessly.
        states_BK = torch.where(scores_BK > -torch.inf, states_BK, states_BK[:, :1])
        if level < trie.levels - 1:
            codes_BK = codes_BKM.flatten(1).gather(1, chosen_BK)
            logits_BKV, cache = decoder.step(codes_BK, chosen_BK // branch, level + 1, cache)
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
