"""Query-token compression of long histories: a few learnt queries read up to thousands of representatives."""

import torch
from torch import Tensor, nn

from onerec.data.windows import Lifelong
from onerec.model.history.item_tokens import ItemTokens
from onerec.model.layers.attention import CrossAttention, FeedForward, rotary_angles
from onerec.model.layers.features import projection

AMOUNTS = 2  # numbers beside the embeddings of a representative: its events, and their mean age


class CompressionLayer(nn.Module):
    """h <- h + CrossAttn(RMSNorm(h), v, v); h <- h + FFN(RMSNorm(h))."""

    def __init__(self, width: int, heads: int, hidden_width: int, dropout: float) -> None:
        super().__init__()
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), CrossAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), FeedForward(width, hidden_width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h_BND: Tensor, v_BRD: Tensor, nowhere: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """One more look of the queries `h_BND` at the rows `v_BRD` that the mask `[B, 1, 1, R]` shows."""
        keys_values = self.cross_attention.keys_values(v_BRD, nowhere)
        attended = self.cross_attention(self.cross_norm(h_BND), nowhere, keys_values, mask)
        h_BND = h_BND + self.dropout(attended)
        return h_BND + self.dropout(self.feed_forward(self.feed_forward_norm(h_BND)))


class LifelongTokens(nn.Module):
    """All events from before a window as a fixed number of tokens (QFormer).

    OneRec Technical Report (arXiv 2506.13695), lifelong pathway: h <- CrossAttn(h, v, v); h <- FFN(RMSNorm(h)), block after
    block, from learnt queries. Here both steps are added to h, the queries are normed before attention and the tokens after the
    last block. Representatives have no order; how old they are is one of their two amounts.

    Args:
        tokens: learnt queries N, and tokens that come out.
        layers: blocks.
        joined_width: of an event's embeddings side by side.
        width, heads, hidden_width, dropout: as in the encoder.
    """

    def __init__(
        self, tokens: int, layers: int, joined_width: int, width: int, heads: int, hidden_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.project = projection(joined_width + AMOUNTS, width)
        self.queries_ND = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.layers = nn.ModuleList(CompressionLayer(width, heads, hidden_width, dropout) for _ in range(layers))
        self.norm, self.head_width = nn.RMSNorm(width), width // heads

    def forward(self, lifelong: Lifelong, tokens: ItemTokens) -> Tensor:
        """Tokens `[B, N, D]`; without meaning for rows that nothing fills."""
        joined_BRJ = tokens.joined(lifelong.items_BR, lifelong.features_BRF)
        v_BRD = self.project(torch.cat([joined_BRJ, lifelong.amounts_BR2.to(joined_BRJ.dtype)], dim=-1))
        # Where there is nothing, the first place of padding is seen, or the softmax would be over nothing.
        seen_BR = lifelong.filled_BR.clone()
        seen_BR[:, 0] |= ~seen_BR.any(dim=1)
        nowhere = rotary_angles(torch.zeros(1, device=v_BRD.device), self.head_width)
        h_BND = self.queries_ND.expand(len(v_BRD), -1, -1)
        for layer in self.layers:
            h_BND = layer(h_BND, v_BRD, nowhere, seen_BR[:, None, None])
        normed: Tensor = self.norm(h_BND)
        return normed
