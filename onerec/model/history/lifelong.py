"""Compression of long histories into query tokens: a few learnt queries read up to thousands of representatives."""

import torch
from torch import Tensor, nn

from onerec.data.windows import Lifelong
from onerec.model.history.item_tokens import ItemTokens
from onerec.model.layers.attention import Angles, CrossAttention, FeedForward, rotary_angles
from onerec.model.layers.features import projection
from onerec.model.layers.layer_sizes import LayerSizes

AMOUNTS = 2  # numbers beside the embeddings of a representative: how many events it stands for, and their mean age


class CompressionLayer(nn.Module):
    """h <- h + CrossAttn(RMSNorm(h), v, v); h <- h + FFN(RMSNorm(h))."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        width = sizes.width
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), CrossAttention(width, sizes.heads, sizes.dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), FeedForward(width, sizes.hidden_width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, h_BND: Tensor, v_BRD: Tensor, no_rotation: Angles, mask: Tensor) -> Tensor:
        """Let the queries `h_BND` read the rows `v_BRD` that the mask `[B, 1, 1, R]` shows."""
        keys_values = self.cross_attention.keys_values(v_BRD, no_rotation)
        attended = self.cross_attention(self.cross_norm(h_BND), no_rotation, keys_values, mask)
        h_BND = h_BND + self.dropout(attended)
        return h_BND + self.dropout(self.feed_forward(self.feed_forward_norm(h_BND)))


class LifelongTokens(nn.Module):
    """Compress all events from before a window into a fixed number of tokens (QFormer).

    This is the lifelong pathway of the OneRec Technical Report (arXiv 2506.13695). It starts from learnt queries h and repeats
    h <- CrossAttn(h, v, v); h <- FFN(RMSNorm(h)). Here both steps are added to h, the queries are normed before attention, and
    the tokens are normed after the last block. Representatives have no order. Their age is one of their two amounts.

    Args:
        tokens: number of learnt queries, which is also the number of resulting tokens, N.
        layers: number of blocks.
        joined_width: width of an event's embeddings side by side.
        sizes: as in the encoder; experts are not used.
    """

    def __init__(self, tokens: int, layers: int, joined_width: int, sizes: LayerSizes) -> None:
        super().__init__()
        width = sizes.width
        self.project = projection(joined_width + AMOUNTS, width)
        self.queries_ND = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.layers = nn.ModuleList(CompressionLayer(sizes) for _ in range(layers))
        self.norm, self.head_width = nn.RMSNorm(width), sizes.head_width

    def forward(self, lifelong: Lifelong, tokens: ItemTokens) -> Tensor:
        """Tokens `[B, N, D]`. They mean nothing in rows without any event."""
        joined_BRJ = tokens.joined(lifelong.items_BR, lifelong.features_BRF)
        v_BRD = self.project(torch.cat([joined_BRJ, lifelong.amounts_BR2.to(joined_BRJ.dtype)], dim=-1))
        # A row without any event sees its first place of padding, because a softmax over nothing has no value.
        seen_BR = lifelong.filled_BR.clone()
        seen_BR[:, 0] |= ~seen_BR.any(dim=1)
        no_rotation = rotary_angles(torch.zeros(1, device=v_BRD.device), self.head_width)
        h_BND = self.queries_ND.expand(len(v_BRD), -1, -1)
        for layer in self.layers:
            h_BND = layer(h_BND, v_BRD, no_rotation, seen_BR[:, None, None])
        normed: Tensor = self.norm(h_BND)
        return normed
