"""Exclusion of items inside the trie: a code that leads to excluded items alone gets no probability.

`beam_search(excluded_BS=...)` removes excluded items only at the end. A narrow beam may spend its places on them and return
fewer items than it is wide. Here every remaining prefix leads to at least one allowed item. So a beam of K, or K samples,
finds K items wherever a user has that many left.
"""

from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from onerec.decode.beam_search import Cache, Children, StepDecoder
from onerec.decode.item_trie import ItemTrie


@dataclass(frozen=True)
class ForbiddenEdges:
    """Edges of the trie that lead to excluded items alone, for each of B users.

    Attributes:
        edges_LBS: int64, ascending within a level, padded with -1 on the left.
    """

    edges_LBS: Tensor

    @classmethod
    def of_items(cls, trie: ItemTrie, excluded_BS: Tensor) -> "ForbiddenEdges":
        """The forbidden edges of each user's excluded items, int64, padded with -1 anywhere. An item may occur twice."""
        items_BS = excluded_BS.sort(dim=1).values
        items_BS[:, 1:] = items_BS[:, 1:].masked_fill(items_BS[:, 1:] == items_BS[:, :-1], -1)
        edges_BSL = trie.paths_of(items_BS.clamp(min=0)).masked_fill(items_BS[..., None] < 0, -1)
        edges_LBS = edges_BSL.permute(2, 0, 1).contiguous().sort(dim=-1).values
        excluded_LBS = torch.searchsorted(edges_LBS, edges_LBS, right=True) - torch.searchsorted(edges_LBS, edges_LBS)
        empty_LBS = excluded_LBS == trie.items_behind[edges_LBS.clamp(min=0)]
        return cls(edges_LBS.masked_fill(~empty_LBS, -1).sort(dim=-1).values)

    def part(self, users: slice) -> "ForbiddenEdges":
        """The forbidden edges of some of the users."""
        return ForbiddenEdges(self.edges_LBS[:, users].contiguous())

    def contain(self, edges: Tensor, level: int) -> Tensor:
        """Whether edges `[B, ...]` of a level are forbidden for their user."""
        forbidden_BS = self.edges_LBS[level]
        if forbidden_BS.shape[1] == 0:
            return torch.zeros_like(edges, dtype=torch.bool)
        flat_BX = edges.flatten(1).contiguous()
        places_BX = torch.searchsorted(forbidden_BS, flat_BX).clamp(max=forbidden_BS.shape[1] - 1)
        return (forbidden_BS.gather(1, places_BX) == flat_BX).view(edges.shape)


@dataclass(frozen=True)
class ExcludingDecoder(Generic[Cache]):
    """A `StepDecoder` that gives no probability to forbidden codes. The probabilities of the other codes do not change.

    Attributes:
        decoder: the decoder behind it.
        forbidden: the forbidden edges of the same users.
    """

    decoder: StepDecoder[Cache]
    forbidden: ForbiddenEdges

    @property
    def legal_only(self) -> bool:
        return self.decoder.legal_only

    def users_at_once(self, beam_width: int) -> int:
        return self.decoder.users_at_once(beam_width)

    def part(self, users: slice, cache: Cache) -> "tuple[ExcludingDecoder[Cache], Cache]":
        decoder, cache = self.decoder.part(users, cache)
        return ExcludingDecoder(decoder, self.forbidden.part(users)), cache

    def start(self) -> tuple[Tensor, Cache]:
        return self.decoder.start()

    def step(self, codes_BK: Tensor, parents_BK: Tensor, level: int, cache: Cache) -> tuple[Tensor, Cache]:
        return self.decoder.step(codes_BK, parents_BK, level, cache)

    def child_log_probabilities(self, hidden_BKD: Tensor, states_BK: Tensor, level: int) -> Children:
        children = self.decoder.child_log_probabilities(hidden_BKD, states_BK, level)
        steps_M = torch.arange(children.log_probabilities.shape[-1], device=states_BK.device)
        forbidden_BKM = self.forbidden.contain(children.first_edges[..., None] + steps_M, level)
        return Children(children.log_probabilities.masked_fill(forbidden_BKM, -torch.inf), children.first_edges)
