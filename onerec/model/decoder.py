"""The decoder: L codes of one target item, each conditioned on the history and on the codes before it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from onerec.model.attention import CrossAttention, SelfAttention, rotary_angles
from onerec.model.experts import ExpertsSpec, experts_of_layer, make_feed_forward
from onerec.model.prefix import Prefix

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class EncodedContext:
    """An encoded batch of histories, as a decoder reads it.

    Attributes:
        states_BTD: the encoder's output, without the prefix.
        keys_values: per decoder layer, keys and values `[B, heads or groups, P + T, head width]`. Layers may share them.
        prefix_BP: boolean, which of the P tokens before the history are there; None where there is no prefix.
    """

    states_BTD: Tensor
    keys_values: list[KeysValues]
    prefix_BP: Tensor | None = None


@dataclass(frozen=True)
class Place:
    """Where the queries of a pass stand.

    Attributes:
        code_angles: rotary angles of the levels within their item.
        item_angles: rotary angles of the items that are predicted, among those of the history.
        mask: boolean `[B, 1, Q, P + T]`, true where a query may see a token of the prefix or an item of the history.
    """

    code_angles: tuple[Tensor, Tensor]
    item_angles: tuple[Tensor, Tensor]
    mask: Tensor


class CodeLayer(nn.Module):
    """Causal self-attention over the codes, cross-attention to the history, feed-forward; each on a normed residual stream.

    Subclasses make the parts and say whether the history is read before the codes.
    """

    cross_first: ClassVar[bool]
    self_norm: nn.RMSNorm
    self_attention: SelfAttention
    cross_norm: nn.RMSNorm
    cross_attention: nn.Module
    feed_forward_norm: nn.RMSNorm
    feed_forward: nn.Module
    dropout: nn.Dropout

    def forward(self, x_BPLD: Tensor, place: Place, keys_values: KeysValues, counted_BPL: Tensor | None) -> Tensor:
        """All levels of P targets per row at once. Targets do not see each other."""
        if self.cross_first:
            x_BPLD = self._read_history(x_BPLD, place, keys_values)
        attended = self.self_attention(self.self_norm(x_BPLD).flatten(0, 1), place.code_angles, causal=True)
        x_BPLD = x_BPLD + self.dropout(attended).view_as(x_BPLD)
        if not self.cross_first:
            x_BPLD = self._read_history(x_BPLD, place, keys_values)
        return x_BPLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BPLD), counted_BPL))

    def step(self, x_BKD: Tensor, place: Place, keys_values: KeysValues, past: KeysValues) -> tuple[Tensor, KeysValues]:
        """One level of K beams, and what the beams remember after it."""
        if self.cross_first:
            x_BKD = self._read_history(x_BKD, place, keys_values)
        attended, grown = self.self_attention.step(self.self_norm(x_BKD), place.code_angles, past)
        x_BKD = x_BKD + attended
        if not self.cross_first:
            x_BKD = self._read_history(x_BKD, place, keys_values)
        return x_BKD + self.feed_forward(self.feed_forward_norm(x_BKD)), grown

    def _read_history(self, x: Tensor, place: Place, keys_values: KeysValues) -> Tensor:
        queries_BQD = self.cross_norm(x).flatten(1, -2)
        attended = self.cross_attention(queries_BQD, place.item_angles, keys_values, place.mask)
        return x + self.dropout(attended).view_as(x)


class CodeDecoder(nn.Module):
    """What all decoders share: inputs, the walk through the layers, the cache, and one output head per code level.

    One deviation from both reports: the first input of a target is the BOS embedding plus the encoder's state of the last item
    it may see. With a causal context and many targets per pass, BOS alone leaves a query that cannot tell which item was last.

    Args:
        layers: the decoder layers.
        width: model width D.
        heads: heads of the self-attention.
        dropout: probability, of the inputs.
        level_sizes: codebook size of each level.
    """

    def __init__(
        self, layers: Iterable[CodeLayer], width: int, heads: int, dropout: float, level_sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.level_embeddings = nn.Parameter(torch.randn(len(level_sizes), width) * width**-0.5)
        self.last_state = nn.Linear(width, width, bias=False)
        self.head_norms = nn.ModuleList(nn.RMSNorm(width) for _ in level_sizes)
        self.heads = nn.ModuleList(nn.Linear(width, size, bias=False) for size in level_sizes)
        self.dropout = nn.Dropout(dropout)
        self.self_heads, self.head_width = heads, width // heads

    @property
    def blocks(self) -> list[CodeLayer]:
        """The layers, with their type."""
        return cast(list[CodeLayer], list(self.layers))

    def read_context(self, states_BTD: Tensor, prefix: Prefix | None = None) -> EncodedContext:
        """Make every layer's keys and values of a context, once."""
        raise NotImplementedError

    @staticmethod
    def _keys_of(states_BTD: Tensor, prefix: Prefix | None) -> tuple[Tensor, Tensor]:
        """States of prefix and history behind each other, and their positions."""
        positions_T = torch.arange(states_BTD.shape[1], device=states_BTD.device)
        if prefix is None:
            return states_BTD, positions_T
        return torch.cat([prefix.tokens_BPD, states_BTD], dim=1), torch.cat([prefix.positions_P, positions_T])

    def forward(
        self,
        inputs_BPLD: Tensor,
        context: EncodedContext,
        positions_BP: Tensor,
        counted_BP: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: final states `[B, P, L, D]` of P targets per row, all levels at once.

        Args:
            inputs_BPLD: `last_state` of the last visible item's state on level 0, embeddings of the true codes (without the
                last) on the others.
            positions_BP: for each target, the position of the last history item it may see.
            counted_BP: boolean, the targets that count in the loss; only these are load for experts. None: all.
        """
        levels = inputs_BPLD.shape[2]
        x_BPLD = self.dropout(inputs_BPLD + self.level_embeddings)
        code_positions_L = torch.arange(levels, device=x_BPLD.device)
        place = self._place(code_positions_L, positions_BP.repeat_interleave(levels, dim=1), context)
        counted_BPL = None if counted_BP is None else counted_BP[..., None].expand(-1, -1, levels)
        for layer, keys_values in zip(self.blocks, context.keys_values, strict=True):
            x_BPLD = layer(x_BPLD, place, keys_values, counted_BPL)
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
        code_position_1 = torch.full((1,), level, device=x_BKD.device)
        place = self._place(code_position_1, last_B[:, None].expand(-1, x_BKD.shape[1]), context)
        grown: list[KeysValues] = []
        for layer, keys_values, past in zip(self.blocks, context.keys_values, cache, strict=True):
            x_BKD, remembered = layer.step(x_BKD, place, keys_values, past)
            grown.append(remembered)
        return x_BKD, grown

    def empty_cache(self, batch: int, context: EncodedContext) -> list[KeysValues]:
        """A cache of no levels for one beam per user."""
        empty = context.keys_values[0][0].new_zeros(batch, 1, self.self_heads, 0, self.head_width)
        return [(empty, empty) for _ in self.layers]

    def _place(self, code_positions: Tensor, positions_BQ: Tensor, context: EncodedContext) -> Place:
        """Rotary angles of the predicted places and the mask of what each query may see."""
        keys_T = torch.arange(context.states_BTD.shape[1], device=positions_BQ.device)
        seen_BQT = keys_T <= positions_BQ[..., None]
        if context.prefix_BP is not None:
            prefix_BQP = context.prefix_BP[:, None].expand(-1, seen_BQT.shape[1], -1)
            seen_BQT = torch.cat([prefix_BQP, seen_BQT], dim=-1)
        return Place(
            rotary_angles(code_positions, self.head_width),
            rotary_angles(positions_BQ[:, None] + 1, self.head_width),
            seen_BQT[:, None],
        )


class DecoderLayer(CodeLayer):
    """A layer that looks at its codes first and makes keys and values of the history with projections of its own."""

    cross_first = False

    def __init__(
        self, width: int, heads: int, hidden_width: int, dropout: float, experts: ExpertsSpec | None = None
    ) -> None:
        super().__init__()
        self.self_norm, self.self_attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), CrossAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), make_feed_forward(width, hidden_width, experts)
        self.dropout = nn.Dropout(dropout)

    def keys_values(self, states_BTD: Tensor, angles: tuple[Tensor, Tensor]) -> KeysValues:
        """This layer's keys and values of a context."""
        return cast(CrossAttention, self.cross_attention).keys_values(states_BTD, angles)


class Decoder(CodeDecoder):
    """The decoder of the OneRec Technical Report (arXiv 2506.13695, decoder section)."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        hidden_width: int,
        dropout: float,
        level_sizes: tuple[int, ...],
        experts: ExpertsSpec | None = None,
    ) -> None:
        stack = [
            DecoderLayer(width, heads, hidden_width, dropout, experts_of_layer(experts, layer))
            for layer in range(layers)
        ]
        super().__init__(stack, width, heads, dropout, level_sizes)

    def read_context(self, states_BTD: Tensor, prefix: Prefix | None = None) -> EncodedContext:
        keys_BSD, positions_S = self._keys_of(states_BTD, prefix)
        angles = rotary_angles(positions_S, self.head_width)
        layers = cast(list[DecoderLayer], self.blocks)
        keys_values = [layer.keys_values(keys_BSD, angles) for layer in layers]
        return EncodedContext(states_BTD, keys_values, None if prefix is None else prefix.filled_BP)
