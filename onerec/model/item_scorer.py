"""The item scorer: it scores whole items against an encoded history by inner products, and is trained beside the codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.history.item_tokens import ItemTokens
from onerec.model.layers.linear import Linear


class ItemScorer(nn.Module):
    """Score items by the encoder state of the newest event.

    An item's vector is the sum of its codes' embeddings and its own embedding, the same ones that read the history. So what
    the model learns about an item in a history counts at once for the item as a target, and an item that training never shows
    is scored by its codes. The loss is a softmax over the catalogue. If the catalogue is larger than `sample`, the softmax
    runs over the batch's targets and `sample` items drawn uniformly.

    Args:
        width: model width D.
        sample: the largest catalogue that targets are compared with as a whole, and the number of items drawn beyond that.
        own_dropout: probability that an item loses its own embedding in training.
    """

    def __init__(self, width: int, sample: int, own_dropout: float) -> None:
        super().__init__()
        self.norm, self.project = nn.RMSNorm(width), Linear(width, width, bias=False)
        self.sample, self.own_dropout = sample, own_dropout

    def queries(self, states: Tensor) -> Tensor:
        """Query vectors `[..., D]` for item vectors, from encoder states `[..., D]`."""
        projected: Tensor = self.project(self.norm(states))
        return projected

    def scores(self, states_BD: Tensor, items_BK: Tensor, tokens: ItemTokens) -> Tensor:
        """Scores `[B, K]` of K items of each user. Only differences within a user have a meaning."""
        return torch.einsum("bd,bkd->bk", self.queries(states_BD), tokens.item_vectors(items_BK)).float()

    def scores_of_all(self, states_XD: Tensor, tokens: ItemTokens, items_N: Tensor) -> Tensor:
        """Scores `[N, X]` of the whole catalogue for each of X states, in the order of `items_N`."""
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
