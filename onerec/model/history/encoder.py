"""The encoder: what the user did, as one state per history item."""

import torch
from torch import Tensor, nn

from onerec.model.history.prefix import Prefix
from onerec.model.layers.attention import SelfAttention, rotary_angles
from onerec.model.layers.experts import ExpertsSpec, experts_of_layer, make_feed_forward


class EncoderLayer(nn.Module):
    """z <- z + SelfAttn(RMSNorm(z)); z <- z + FFN(RMSNorm(z))  (OneRec Technical Report, arXiv 2506.13695)."""

    def __init__(
        self, width: int, heads: int, hidden_width: int, dropout: float, experts: ExpertsSpec | None = None
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), make_feed_forward(width, hidden_width, experts)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, z_BTD: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool, counted_BT: Tensor
    ) -> Tensor:
        """`counted_BT` is true for items and false for padding, which is no load for experts."""
        z_BTD = z_BTD + self.dropout(self.attention(self.attention_norm(z_BTD), angles, mask, causal))
        return z_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(z_BTD), counted_BT))


class Encoder(nn.Module):
    """A stack of encoder layers over context tokens, padded on the right.

    With `causal` every state sees only items up to its own, so each position of a window can serve as the context of its own
    target in one pass. Without it the whole window is seen (the report's setting) and only the item after it is a target.
    Without any layer it only norms the tokens.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        hidden_width: int,
        dropout: float,
        causal: bool,
        experts: ExpertsSpec | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, hidden_width, dropout, experts_of_layer(experts, layer))
            for layer in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head_width, self.causal = width // heads, causal

    def forward(self, tokens_BTD: Tensor, lengths_B: Tensor, prefix: Prefix | None = None) -> Tensor:
        """States `[B, T, D]`; those behind a row's length are meaningless and must be masked by whoever reads them.

        With a prefix of P tokens the states are `[B, P + T, D]`, its own first. All tokens see those of the prefix.
        """
        time = tokens_BTD.shape[1]
        positions_T = torch.arange(time, device=tokens_BTD.device)
        filled_BT = positions_T < lengths_B[:, None]
        # Padding stands after the items, so a causal mask hides it already.
        mask, causal = None if self.causal else filled_BT[:, None, None, :], self.causal
        if prefix is not None:
            tokens_BTD = torch.cat([prefix.tokens_BPD.to(tokens_BTD.dtype), tokens_BTD], dim=1)
            positions_T = torch.cat([prefix.positions_P, positions_T])
            filled_BT = torch.cat([prefix.filled_BP, filled_BT], dim=1)
            mask, causal = self._mask(filled_BT, len(prefix.positions_P)), False
        angles = rotary_angles(positions_T, self.head_width)
        z_BTD = self.dropout(tokens_BTD)
        for layer in self.layers:
            z_BTD = layer(z_BTD, angles, mask, causal, filled_BT)
        return self.norm(z_BTD)

    def _mask(self, filled_BT: Tensor, prefix: int) -> Tensor:
        """What may be seen where `prefix` tokens stand before the history: boolean `[B, 1, T, T]`, queries first."""
        places_T = torch.arange(filled_BT.shape[1], device=filled_BT.device)
        seen_BTT = filled_BT[:, None].expand(-1, len(places_T), -1)
        if self.causal:
            seen_BTT = seen_BTT & ((places_T < prefix) | (places_T <= places_T[:, None]))
        # Padding sees itself, or its softmax would be over nothing.
        return (seen_BTT | (places_T[:, None] == places_T))[:, None]
