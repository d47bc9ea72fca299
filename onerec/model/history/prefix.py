"""Tokens before the history: who the user is, and what the user did before the window.

Every position of the history sees these tokens. In a causal context they do not see the history, so they never depend on it.
Source: OneRec Technical Report (arXiv 2506.13695), section on the encoder's pathways.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onerec.data.features import PathwaysConfig
from onerec.data.windows import Batch, ContextFeatures, Lifelong
from onerec.model.history.item_tokens import ItemTokens
from onerec.model.history.lifelong import AMOUNTS, LifelongTokens
from onerec.model.layers.features import FeatureEmbeddings, drop_rows, projection


@dataclass(frozen=True)
class Prefix:
    """Tokens before the history, or their encoder states.

    Attributes:
        tokens_BPD: the tokens.
        filled_BP: boolean, false for padding.
        positions_P: int64, negative, because the first event of the window has position 0. Padding does not move them.
    """

    tokens_BPD: Tensor
    filled_BP: Tensor
    positions_P: Tensor


class PrefixTokens(nn.Module):
    """Make the tokens before the history. Each of the three pathways is optional.

    - The user: one token from the user's features, if `user_sizes` is not empty.
    - Positive feedback: one token per positive event from before the window, if `pathways.positive_length` > 0.
    - Lifelong: all events from before the window, compressed, if `lifelong` is given.

    The first two have a Dense-LeakyReLU-Dense projection of their own, then a norm. Items and events share their embeddings
    with the history.

    Args:
        user_sizes: number of codes of each user feature.
        pathways: width and dropout of the user's features, and the largest number of positive events. Users lose their features
            in training so that the model learns unknown users.
        joined_width: width of an event's embeddings side by side.
        width: model width D.
        lifelong: compresses all events from before the window; None where they are not read.
    """

    def __init__(
        self,
        user_sizes: list[int],
        pathways: PathwaysConfig,
        joined_width: int,
        width: int,
        lifelong: LifelongTokens | None = None,
    ) -> None:
        super().__init__()
        self.user_count, self.dropout = len(user_sizes), pathways.feature_dropout
        self.positive_length = pathways.positive_length
        self.users = FeatureEmbeddings(user_sizes, pathways.feature_width) if user_sizes else None
        self.user_project = projection(self.users.width, width) if self.users is not None else None
        # Of the positive events. Saved models hold its parameters under this name.
        self.older_project = projection(joined_width, width) if self.positive_length else None
        self.lifelong = lifelong

    def forward(self, batch: Batch, tokens: ItemTokens) -> Prefix:
        """The prefix of every row. A batch without context features has unknown users and no events before the window."""
        features, device = batch.context_features or self._unknown(batch, tokens), batch.items_BT.device
        made: list[Tensor] = []
        filled: list[Tensor] = []
        positions: list[Tensor] = []
        if self.users is not None and self.user_project is not None:
            codes_BU = drop_rows(features.users_BU, self.dropout, self.training)
            made.append(self.user_project(self.users(codes_BU))[:, None])
            filled.append(torch.ones_like(codes_BU[:, :1], dtype=torch.bool))
            positions.append(torch.full((1,), -1 - self.positive_length, device=device))
        if self.older_project is not None:
            made.append(self.older_project(tokens.joined(features.positive_items_BP, features.positive_features_BPF)))
            filled.append(features.positive_filled_BP)
            positions.append(torch.arange(-features.positive_filled_BP.shape[1], 0, device=device))
        if self.lifelong is not None:
            lifelong = features.lifelong or self._no_events(batch, tokens)
            made.append(self.lifelong(lifelong, tokens))
            filled.append(lifelong.filled_BR.any(dim=1, keepdim=True).expand(made[-1].shape[:2]))
            # These tokens have no order among themselves, so all share one position.
            positions.append(torch.full((made[-1].shape[1],), -2 - self.positive_length, device=device))
        return Prefix(torch.cat(made, dim=1), torch.cat(filled, dim=1), torch.cat(positions))

    def _unknown(self, batch: Batch, tokens: ItemTokens) -> ContextFeatures:
        """Unknown users, with one place of padding for positive events."""
        items_B1 = torch.zeros_like(batch.items_BT[:, :1])
        features = 0 if tokens.features is None else tokens.features.event_count
        features_B1F = items_B1[..., None].expand(-1, -1, features)
        users_BU = items_B1.expand(-1, self.user_count)
        return ContextFeatures(features_B1F, users_BU, items_B1, features_B1F, items_B1.bool())

    def _no_events(self, batch: Batch, tokens: ItemTokens) -> Lifelong:
        """One place of padding for events from before the window."""
        padding = self._unknown(batch, tokens)
        amounts_B12 = torch.zeros(len(batch.items_BT), 1, AMOUNTS, device=batch.items_BT.device)
        return Lifelong(
            padding.positive_items_BP, padding.positive_features_BPF, amounts_B12, padding.positive_filled_BP
        )
