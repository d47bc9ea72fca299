"""The decoder: L codes of one target item, each conditioned on the history and on the codes before it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from onerec.model.history.prefix import Prefix
from onerec.model.layers.attention import CrossAttention, SelfAttention, rotary_angles, rotate
from onerec.model.layers.experts import ExpertsSpec, experts_of_layer, make_feed_forward
from onerec.model.layers.linear import Linear

KeysValues = tuple[Tensor, Tensor]
Angles = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class EncodedContext:
    """An encoded batch of histories, as a decoder reads it.

    Attributes:
        states_BTD: the encoder's output, without the prefix.
        keys_values: per decoder layer, keys and values `[B, heads or groups, P + T, head width]`. Layers may share them.
        prefix_BP: boolean, which of the P tokens before the history are there; None where there is no prefix.
        relative: keys are turned by their place relative to the item behind the last one, so its queries need no turning.
    """

    states_BTD: Tensor
    keys_values: list[KeysValues]
    prefix_BP: Tensor | None = None
    relative: bool = False

    def part(self, users: slice) -> "EncodedContext":
        """The context of some of the users; nothing is copied."""
        keys_values = [(keys[users], values[users]) for keys, values in self.keys_values]
        prefix_BP = None if self.prefix_BP is None else self.prefix_BP[users]
        return EncodedContext(self.states_BTD[users], keys_values, prefix_BP, self.relative)


@dataclass(frozen=True)
class Past:
    """What beams remember of the codes they chose. Beams that grew from one beam share what it remembers; nothing is copied.

    Attributes:
        keys_values: per level so far and per layer, keys (not turned) and values `[B, beams of that level, heads, head width]`.
        ancestors_BK: per level, int64, which of that level's beams each of the present beams grew from.
    """

    keys_values: list[list[KeysValues]]
    ancestors_BK: list[Tensor]

    def part(self, users: slice) -> "Past":
        """The past of some of the users."""
        keys_values = [[(keys[users], values[users]) for keys, values in level] for level in self.keys_values]
        return Past(keys_values, [beams[users] for beams in self.ancestors_BK])

    def followed_by(self, parents_BK: Tensor) -> "Past":
        """The past of beams that grow from beams `parents_BK`."""
        return Past(self.keys_values, [beams.gather(1, parents_BK) for beams in self.ancestors_BK])

    def grown(self, own: list[KeysValues]) -> "Past":
        """The past with the level that the present beams have just chosen."""
        users, beams = own[0][0].shape[:2]
        itself_BK = torch.arange(beams, device=own[0][0].device).expand(users, -1)
        return Past([*self.keys_values, own], [*self.ancestors_BK, itself_BK])

    def of_layer(self, layer: int, turns: list[Angles]) -> list[KeysValues]:
        """One layer's keys, turned by these angles per level, and values, as the present beams see them."""
        seen = []
        for level, ancestors_BK, turn in zip(self.keys_values, self.ancestors_BK, turns, strict=True):
            keys, values = level[layer]
            if keys.shape[1] > 1:
                rows_X = (ancestors_BK + keys.shape[1] * torch.arange(len(keys), device=keys.device)[:, None]).flatten()
                keys, values = (
                    one.flatten(0, 1).index_select(0, rows_X).unflatten(0, ancestors_BK.shape) for one in (keys, values)
                )
            seen.append((rotate(keys, turn), values))
        return seen


@dataclass(frozen=True)
class Place:
    """Where the queries of a pass stand in the history.

    Attributes:
        item_angles: rotary angles of the items that are predicted, among those of the history; None where the keys are turned
            relative to them.
        mask: boolean `[B, 1, Q or 1, P + T]`, true where a query may see a token of the prefix or an item of the history.
    """

    item_angles: Angles | None
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

    def forward(
        self, x_BPLD: Tensor, code_angles: Angles, place: Place, keys_values: KeysValues, counted_BPL: Tensor | None
    ) -> Tensor:
        """All levels of P targets per row at once. Targets do not see each other."""
        if self.cross_first:
            x_BPLD = self._read_history(x_BPLD, place, keys_values)
        attended = self.self_attention(self.self_norm(x_BPLD).flatten(0, 1), code_angles, causal=True)
        x_BPLD = x_BPLD + self.dropout(attended).view_as(x_BPLD)
        if not self.cross_first:
            x_BPLD = self._read_history(x_BPLD, place, keys_values)
        return x_BPLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BPLD), counted_BPL))

    def step(
        self, x_BKD: Tensor, place: Place, keys_values: KeysValues, past: list[KeysValues]
    ) -> tuple[Tensor, KeysValues]:
        """One level of K beams, and what the beams remember of it."""
        if self.cross_first:
            x_BKD = self._read_history(x_BKD, place, keys_values)
        attended, own = self.self_attention.step(self.self_norm(x_BKD), past)
        x_BKD = x_BKD + attended
        if not self.cross_first:
            x_BKD = self._read_history(x_BKD, place, keys_values)
        return x_BKD + self.feed_forward(self.feed_forward_norm(x_BKD)), own

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
        self.last_state = Linear(width, width, bias=False)
        self.head_norms = nn.ModuleList(nn.RMSNorm(width) for _ in level_sizes)
        self.heads = nn.ModuleList(Linear(width, size, bias=False) for size in level_sizes)
        self.dropout = nn.Dropout(dropout)
        self.self_heads, self.head_width = heads, width // heads

    @property
    def blocks(self) -> list[CodeLayer]:
        """The layers, with their type."""
        return cast(list[CodeLayer], list(self.layers))

    def read_context(
        self, states_BTD: Tensor, prefix: Prefix | None = None, last_B: Tensor | None = None
    ) -> EncodedContext:
        """Make every layer's keys and values of a context, once.

        Args:
            last_B: the position that all of a row's queries look back from. Turning keys relative to it spares every query its
                own turning. None: queries of a row may stand at different positions.
        """
        raise NotImplementedError

    @staticmethod
    def _keys_of(states_BTD: Tensor, prefix: Prefix | None, last_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """States of prefix and history behind each other, and their positions: `[S]`, or `[B, 1, S]` relative to the targets."""
        positions = torch.arange(states_BTD.shape[1], device=states_BTD.device)
        if prefix is not None:
            states_BTD = torch.cat([prefix.tokens_BPD, states_BTD], dim=1)
            positions = torch.cat([prefix.positions_P, positions])
        return states_BTD, positions if last_B is None else positions - (last_B[:, None, None] + 1)

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
        code_angles = rotary_angles(torch.arange(levels, device=x_BPLD.device), self.head_width)
        place = self._place(positions_BP.repeat_interleave(levels, dim=1), context)
        counted_BPL = None if counted_BP is None else counted_BP[..., None].expand(-1, -1, levels)
        for layer, keys_values in zip(self.blocks, context.keys_values, strict=True):
            x_BPLD = layer(x_BPLD, code_angles, place, keys_values, counted_BPL)
        return x_BPLD

    def step(
        self, inputs_BKD: Tensor, level: int, context: EncodedContext, last_B: Tensor, past: Past
    ) -> tuple[Tensor, Past]:
        """One level of K beams: final states `[B, K, D]`, and the past with this level.

        Args:
            inputs_BKD: as in `forward`; on level 0, K is 1.
            last_B: position of each user's last history item.
            past: what these beams remember of the levels before.
        """
        x_BKD = inputs_BKD + self.level_embeddings[level]
        place = self._place(last_B[:, None], context)
        turns = [
            rotary_angles(torch.full((1,), before - level, device=x_BKD.device), self.head_width)
            for before in range(level)
        ]
        own: list[KeysValues] = []
        for number, (layer, keys_values) in enumerate(zip(self.blocks, context.keys_values, strict=True)):
            x_BKD, remembered = layer.step(x_BKD, place, keys_values, past.of_layer(number, turns))
            own.append(remembered)
        return x_BKD, past.grown(own)

    def _place(self, positions_BQ: Tensor, context: EncodedContext) -> Place:
        """Rotary angles of the predicted places and the mask of what each query may see; Q is 1 where all see the same."""
        keys_T = torch.arange(context.states_BTD.shape[1], device=positions_BQ.device)
        seen_BQT = keys_T <= positions_BQ[..., None]
        if context.prefix_BP is not None:
            prefix_BQP = context.prefix_BP[:, None].expand(-1, seen_BQT.shape[1], -1)
            seen_BQT = torch.cat([prefix_BQP, seen_BQT], dim=-1)
        angles = None if context.relative else rotary_angles(positions_BQ[:, None] + 1, self.head_width)
        return Place(angles, seen_BQT[:, None])


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

    def keys_values(self, states_BTD: Tensor, angles: Angles) -> KeysValues:
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

    def read_context(
        self, states_BTD: Tensor, prefix: Prefix | None = None, last_B: Tensor | None = None
    ) -> EncodedContext:
        keys_BSD, positions = self._keys_of(states_BTD, prefix, last_B)
        angles = rotary_angles(positions, self.head_width)
        layers = cast(list[DecoderLayer], self.blocks)
        keys_values = [layer.keys_values(keys_BSD, angles) for layer in layers]
        prefix_BP = None if prefix is None else prefix.filled_BP
        return EncodedContext(states_BTD, keys_values, prefix_BP, relative=last_B is not None)
