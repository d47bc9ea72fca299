"""The decoder: L codes of one target item, each conditioned on the history and on the codes before it."""

from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.attention import CrossAttention, FeedForward, SelfAttention, rotary_angles, rotate

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class EncodedContext:
    """An encoded batch of histories, as the decoder reads it.

    Attributes:
        states_BTD: the encoder's output.
        keys_values: per decoder layer, keys and values `[B, heads, T, head width]`.
    """

    states_BTD: Tensor
    keys_values: list[KeysValues]


class DecoderLayer(nn.Module):
    """Causal self-attention over the codes, cross-attention to the history, feed-forward; each on a normed residual stream."""

    def __init__(self, width: int, heads: int, hidden_width: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.self_attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), CrossAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), FeedForward(width, hidden_width)
        self.dropout = nn.Dropout(dropout)

    def cross_and_feed_forward(
        self, x_BQD: Tensor, place: tuple[Tensor, Tensor], keys_values: KeysValues, mask: Tensor
    ) -> Tensor:
        """The two sublayers in which tokens of one target do not see each other."""
        x_BQD = x_BQD + self.dropout(self.cross_attention(self.cross_norm(x_BQD), place, keys_values, mask))
        return x_BQD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BQD)))


class Decoder(nn.Module):
    """Decoder layers and one output head per code level (OneRec Technical Report, arXiv 2506.13695, decoder section).

    One deviation: the first input of a target is the BOS embedding plus the encoder's state of the last item it may see. With
    a causal context and many targets per pass, BOS alone leaves a query that cannot tell which item was the last.
    """

    def __init__(
        self, layers: int, width: int, heads: int, hidden_width: int, dropout: float, level_sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden_width, dropout) for _ in range(layers))
        self.level_embeddings = nn.Parameter(torch.randn(len(level_sizes), width) * width**-0.5)
        self.last_state = nn.Linear(width, width, bias=False)
        self.head_norms = nn.ModuleList(nn.RMSNorm(width) for _ in level_sizes)
        self.heads = nn.ModuleList(nn.Linear(width, size, bias=False) for size in level_sizes)
        self.dropout = nn.Dropout(dropout)
        self.head_width = width // heads

    @property
    def blocks(self) -> list[DecoderLayer]:
        """The layers, with their type."""
        return cast(list[DecoderLayer], list(self.layers))

    def read_context(self, states_BTD: Tensor) -> EncodedContext:
        """Make every layer's keys and values of a context, once."""
        angles = rotary_angles(torch.arange(states_BTD.shape[1], device=states_BTD.device), self.head_width)
        return EncodedContext(
            states_BTD, [layer.cross_attention.keys_values(states_BTD, angles) for layer in self.blocks]
        )

    def forward(self, inputs_BPLD: Tensor, context: EncodedContext, positions_BP: Tensor) -> Tensor:
        """Teacher forcing: final states `[B, P, L, D]` of P targets per row, all levels at once.

        Args:
            inputs_BPLD: `last_state` of the last visible item's state on level 0, embeddings of the true codes (without the
                last) on the others.
            positions_BP: for each target, the position of the last history item it may see.
        """
        batch, targets, levels, _ = inputs_BPLD.shape
        x_BPLD = self.dropout(inputs_BPLD + self.level_embeddings)
        code_angles = rotary_angles(torch.arange(levels, device=x_BPLD.device), self.head_width)
        positions_BQ = positions_BP.repeat_interleave(levels, dim=1)
        place, mask = self._place(positions_BQ, context)
        for layer, keys_values in zip(self.blocks, context.keys_values, strict=True):
            x_XLD = layer.self_norm(x_BPLD).flatten(0, 1)
            attended = layer.self_attention(x_XLD, code_angles, causal=True)
            x_BPLD = x_BPLD + layer.dropout(attended).view_as(x_BPLD)
            x_BQD = layer.cross_and_feed_forward(x_BPLD.flatten(1, 2), place, keys_values, mask)
            x_BPLD = x_BQD.view(batch, targets, levels, -1)
        return x_BPLD

    def step(
        self, inputs_BKD: Tensor, level: int, context: EncodedContext, last_B: Tensor, cache: list[KeysValues]
    ) -> tuple[Tensor, list[KeysValues]]:
        """One level of K beams: final states `[B, K, D]` and the grown cache.

        Args:
            inputs_BKD: as in `forward`; on level 0, K is 1.
            last_B: position of each user's last history item.
            cache: per layer, keys and values `[B, K, heads, levels so far, head width]` of the beams' own past.
        """
        x_BKD = inputs_BKD + self.level_embeddings[level]
        code_angles = rotary_angles(torch.full((1,), level, device=x_BKD.device), self.head_width)
        place, mask = self._place(last_B[:, None].expand(-1, x_BKD.shape[1]), context)
        grown: list[KeysValues] = []
        for layer, keys_values, past in zip(self.blocks, context.keys_values, cache, strict=True):
            query, key, value = layer.self_attention.heads_of(layer.self_norm(x_BKD)[:, :, None])
            key = torch.cat([past[0], rotate(key, code_angles)], dim=-2)
            value = torch.cat([past[1], value], dim=-2)
            attended = functional.scaled_dot_product_attention(rotate(query, code_angles), key, value)
            x_BKD = x_BKD + layer.self_attention.project_out(rearrange(attended, "b k h 1 d -> b k (h d)"))
            x_BKD = layer.cross_and_feed_forward(x_BKD, place, keys_values, mask)
            grown.append((key, value))
        return x_BKD, grown

    def empty_cache(self, batch: int, context: EncodedContext) -> list[KeysValues]:
        """A cache of no levels for one beam per user."""
        like = context.keys_values[0][0]
        empty = like.new_zeros(batch, 1, like.shape[1], 0, like.shape[3])
        return [(empty, empty) for _ in self.layers]

    def _place(self, positions_BQ: Tensor, context: EncodedContext) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Rotary angles of the predicted places and the mask of what each query may see."""
        cosine, sine = rotary_angles(positions_BQ[:, None] + 1, self.head_width)
        keys_T = torch.arange(context.states_BTD.shape[1], device=positions_BQ.device)
        return (cosine, sine), (keys_T <= positions_BQ[..., None])[:, None]
