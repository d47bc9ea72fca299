"""Whole items against an encoded history: one inner product each, trained beside the codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.history.item_tokens import ItemTokens
from onerec.model.layers.linear import Linear


class ItemScorer(nn.Module):
    """Score items by the state of the newest event, with the very embeddings that the history is read with.

    An item is the sum of its codes' embeddings and its own, so what a history teaches about an item is known about it as a
    target at once, and an item that training never shows is scored by its codes. The loss is a softmax over the catalogue, or,
    where the catalogue is larger than `sample`, over the targets of the batch and that many items drawn evenly.

    Args:
        width: model width D.
        sample: items that a batch's targets are compared with, at most.
        own_dropout: probability that an item loses its own embedding in training.
    """

    def __init__(self, width: int, sample: int, own_dropout: float) -> None:
        super().__init__()
        self.norm, self.project = nn.RMSNorm(width), Linear(width, width, bias=False)
        self.sample, self.own_dropout = sample, own_dropout

    def queries(self, states: Tensor) -> Tensor:
        """What items `[..., D]` are compared with, from encoder states `[..., D]`."""
        projected: Tensor = self.project(self.norm(states))
        return projected

    def scores(self, states_BD: Tensor, items_BK: Tensor, tokens: ItemTokens) -> Tensor:
        """Scores `[B, K]` of some items of each user; only differences within a user mean anything."""
        return torch.einsum("bd,bkd->bk", self.queries(states_BD), tokens.item_vectors(items_BK)).float()

    def scores_of_all(self, states_XD: Tensor, tokens: ItemTokens, items_N: Tensor) -> Tensor:
        """Scores `[N, X]` of the whole catalogue, in the order of `items_N`, for each of X states."""
        vectors_ND = tokens.item_vectors(items_N, self.own_dropout if self.training else 0.0)
        return (vectors_ND @ self.queries(states_XD).T).float()

    def loss(self, states_XD: Tensor, targets_X: Tensor, tokens: ItemTokens) -> Tensor:
        """Negative log-likelihood of the targets in nats, summed."""
        count = len(tokens.codes_NL)
        items_S, places_X = torch.arange(count, device=targets_X.device), targets_X
        if count > self.sample:
            drawn_S = torch.randint(count, (self.sample,), device=targets_X.device)
            items_S, places = torch.cat([targets_X, drawn_S]).unique(return_inverse=True)
            places_X = places[: len(targets_X)]
        vectors_SD = tokens.item_vectors(items_S, self.own_dropout if self.training else 0.0)
        logits_XS = self.queries(states_XD) @ vectors_SD.T
        return functional.cross_entropy(logits_XS.float(), places_X, reduction="sum")
