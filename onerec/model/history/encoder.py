"""The encoder: it turns the tokens of a user's history into one state per item."""

import torch
from torch import Tensor, nn

from onerec.model.history.prefix import Prefix
from onerec.model.layers.attention import Angles, SelfAttention, rotary_angles
from onerec.model.layers.layer_sizes import LayerSizes


class EncoderLayer(nn.Module):
    """z <- z + SelfAttn(RMSNorm(z)); z <- z + FFN(RMSNorm(z))  (OneRec Technical Report, arXiv 2506.13695)."""

    def __init__(self, sizes: LayerSizes, layer: int) -> None:
        super().__init__()
        width = sizes.width
        self.attention_norm, self.attention = nn.RMSNorm(width), SelfAttention(width, sizes.heads, sizes.dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), sizes.feed_forward(layer)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, z_BTD: Tensor, angles: Angles, mask: Tensor | None, causal: bool, counted_BT: Tensor) -> Tensor:
        """`counted_BT` is true for items and false for padding, which does not count as load for experts."""
        z_BTD = z_BTD + self.dropout(self.attention(self.attention_norm(z_BTD), angles, mask, causal))
        return z_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(z_BTD), counted_BT))


class Encoder(nn.Module):
    """A stack of encoder layers over context tokens, padded on the right.

    With `causal`, every state sees only items up to its own, so one pass gives a context to the target behind every position.
    Without it, every state sees the whole window (the report's setting), and only the item after the window is a target.
    With no layers, the encoder only norms the tokens.

    Args:
        layers: number of layers.
        sizes: sizes of every layer.
        causal: whether a state sees only items up to its own.
    """

    def __init__(self, layers: int, sizes: LayerSizes, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes, layer) for layer in range(layers))
        self.norm, self.dropout = nn.RMSNorm(sizes.width), nn.Dropout(sizes.dropout)
        self.head_width, self.causal = sizes.head_width, causal

    def forward(self, tokens_BTD: Tensor, lengths_B: Tensor, prefix: Prefix | None = None) -> Tensor:
        """States `[B, T, D]`. States past a row's length mean nothing, and the caller must mask them.

        A prefix of P tokens gives states `[B, P + T, D]`, with the prefix first. Every token sees the prefix.
        """
        time = tokens_BTD.shape[1]
        positions_T = torch.arange(time, device=tokens_BTD.device)
        filled_BT = positions_T < lengths_B[:, None]
        # A causal mask hides the padding already, because the padding stands after the items.
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
        """What each token may see where `prefix` tokens come before the history: boolean `[B, 1, T, T]`, queries first."""
        places_T = torch.arange(filled_BT.shape[1], device=filled_BT.device)
        seen_BTT = filled_BT[:, None].expand(-1, len(places_T), -1)
        if self.causal:
            seen_BTT = seen_BTT & ((places_T < prefix) | (places_T <= places_T[:, None]))
        # Padding sees itself, because a softmax over nothing has no value.
        return (seen_BTT | (places_T[:, None] == places_T))[:, None]
