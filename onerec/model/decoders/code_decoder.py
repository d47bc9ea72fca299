"""What the decoders share: they write the L codes of a target item, each given the history and the codes before it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from onerec.model.history.prefix import Prefix
from onerec.model.layers.attention import Angles, KeysValues, SelfAttention, rotary_angles, rotate
from onerec.model.layers.layer_sizes import LayerSizes
from onerec.model.layers.linear import Linear


@dataclass(frozen=True)
class EncodedContext:
    """An encoded batch of histories, as a decoder reads it.

    Attributes:
        states_BTD: the encoder's output, without the prefix.
        keys_values: per decoder layer, keys and values `[B, heads or groups, P + T, head width]`. Layers may share them.
        prefix_BP: boolean, false for padding among the P tokens before the history; None where there is no prefix.
        relative: whether keys are rotated by their position relative to the item to predict, so that queries need no rotation.
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
    """The cache of the codes that beams chose. Beams that grew from one beam share its cache; nothing is copied.

    Attributes:
        keys_values: per level so far and per layer, keys (not rotated) and values, `[B, beams of that level, heads, head width]`.
        ancestors_BK: per level, int64, the beam of that level that each present beam grew from.
    """

    keys_values: list[list[KeysValues]]
    ancestors_BK: list[Tensor]

    def part(self, users: slice) -> "Past":
        """The cache of some of the users."""
        keys_values = [[(keys[users], values[users]) for keys, values in level] for level in self.keys_values]
        return Past(keys_values, [beams[users] for beams in self.ancestors_BK])

    def followed_by(self, parents_BK: Tensor) -> "Past":
        """The cache of beams that grow from beams `parents_BK`."""
        return Past(self.keys_values, [beams.gather(1, parents_BK) for beams in self.ancestors_BK])

    def grown(self, own: list[KeysValues]) -> "Past":
        """The cache with the level that the present beams have just chosen."""
        users, beams = own[0][0].shape[:2]
        itself_BK = torch.arange(beams, device=own[0][0].device).expand(users, -1)
        return Past([*self.keys_values, own], [*self.ancestors_BK, itself_BK])

    def of_layer(self, layer: int, angles: list[Angles]) -> list[KeysValues]:
        """One layer's keys and values as the present beams see them. `angles` says how far to rotate the keys of each level."""
        seen = []
        for level, ancestors_BK, level_angles in zip(self.keys_values, self.ancestors_BK, angles, strict=True):
            keys, values = level[layer]
            if keys.shape[1] > 1:
                rows_X = (ancestors_BK + keys.shape[1] * torch.arange(len(keys), device=keys.device)[:, None]).flatten()
                keys, values = (
                    one.flatten(0, 1).index_select(0, rows_X).unflatten(0, ancestors_BK.shape) for one in (keys, values)
                )
            seen.append((rotate(keys, level_angles), values))
        return seen


@dataclass(frozen=True)
class Place:
    """Where the queries of a pass stand in the history.

    Attributes:
        item_angles: rotary angles of the items to predict; None where the keys are rotated relative to these items.
        mask: boolean `[B, 1, Q or 1, P + T]`, true where a query may see a token of the prefix or an item of the history.
    """

    item_angles: Angles | None
    mask: Tensor


class CodeLayer(nn.Module):
    """Causal self-attention over the codes, cross-attention to the history, and feed-forward, each on a normed residual stream.

    A subclass makes the parts. `cross_first` says whether a layer reads the history before the codes.
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
        """One level of K beams: the output, and the keys and values to cache."""
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
    """What both decoders share: inputs, the pass through the layers, the cache, and one output head per code level.

    There is one deviation from both reports: the first input of a target is the BOS embedding plus the encoder state of the
    last item that the target may see. With a causal context and many targets per pass, a query made of BOS alone could not
    tell which item was last.

    Args:
        layers: the decoder layers.
        sizes: sizes of every layer.
        level_sizes: codebook size of each level.
    """

    def __init__(self, layers: Iterable[CodeLayer], sizes: LayerSizes, level_sizes: tuple[int, ...]) -> None:
        super().__init__()
        width = sizes.width
        self.layers = nn.ModuleList(layers)
        self.level_embeddings = nn.Parameter(torch.randn(len(level_sizes), width) * width**-0.5)
        self.last_state = Linear(width, width, bias=False)
        self.head_norms = nn.ModuleList(nn.RMSNorm(width) for _ in level_sizes)
        self.heads = nn.ModuleList(Linear(width, size, bias=False) for size in level_sizes)
        self.dropout, self.head_width = nn.Dropout(sizes.dropout), sizes.head_width

    @property
    def blocks(self) -> list[CodeLayer]:
        """The layers, with their type."""
        return cast(list[CodeLayer], list(self.layers))

    def keys_values(self, states_BSD: Tensor, positions: Tensor) -> list[KeysValues]:
        """Keys and values of every layer. `positions` are those of the S states, `[S]` or `[B, 1, S]`."""
        raise NotImplementedError

    def read_context(
        self, states_BTD: Tensor, prefix: Prefix | None = None, last_B: Tensor | None = None
    ) -> EncodedContext:
        """Make every layer's keys and values of a context, once.

        Args:
            last_B: position of each row's last item, if all queries of the row predict the item after it. Keys are then rotated
                relative to that item, which saves rotating every query. None: queries of a row may stand at different
                positions.
        """
        positions, states_BSD = torch.arange(states_BTD.shape[1], device=states_BTD.device), states_BTD
        if prefix is not None:
            states_BSD = torch.cat([prefix.tokens_BPD, states_BTD], dim=1)
            positions = torch.cat([prefix.positions_P, positions])
        if last_B is not None:
            positions = positions - (last_B[:, None, None] + 1)
        keys_values, prefix_BP = self.keys_values(states_BSD, positions), None if prefix is None else prefix.filled_BP
        return EncodedContext(states_BTD, keys_values, prefix_BP, relative=last_B is not None)

    def forward(
        self,
        inputs_BPLD: Tensor,
        context: EncodedContext,
        positions_BP: Tensor,
        counted_BP: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: final states `[B, P, L, D]` of P targets per row, all levels at once.

        Args:
            inputs_BPLD: on level 0, `last_state` of the state of the last visible item. On the other levels, the embedding of
                the true code of the level before.
            positions_BP: for each target, the position of the last history item it may see.
            counted_BP: boolean, the targets that count in the loss. Only these count as load for experts. None: all.
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
        """One level of K beams: final states `[B, K, D]`, and the cache with this level.

        Args:
            inputs_BKD: as in `forward`; on level 0, K is 1.
            last_B: position of each user's last history item.
            past: the cache of these beams.
        """
        x_BKD = inputs_BKD + self.level_embeddings[level]
        place = self._place(last_B[:, None], context)
        back = [
            rotary_angles(torch.full((1,), before - level, device=x_BKD.device), self.head_width)
            for before in range(level)
        ]
        own: list[KeysValues] = []
        for number, (layer, keys_values) in enumerate(zip(self.blocks, context.keys_values, strict=True)):
            x_BKD, cached = layer.step(x_BKD, place, keys_values, past.of_layer(number, back))
            own.append(cached)
        return x_BKD, past.grown(own)

    def _place(self, positions_BQ: Tensor, context: EncodedContext) -> Place:
        """Rotary angles of the items to predict, and what each query may see. Q is 1 where all queries see the same."""
        keys_T = torch.arange(context.states_BTD.shape[1], device=positions_BQ.device)
        seen_BQT = keys_T <= positions_BQ[..., None]
        if context.prefix_BP is not None:
            prefix_BQP = context.prefix_BP[:, None].expand(-1, seen_BQT.shape[1], -1)
            seen_BQT = torch.cat([prefix_BQP, seen_BQT], dim=-1)
        angles = None if context.relative else rotary_angles(positions_BQ[:, None] + 1, self.head_width)
        return Place(angles, seen_BQT[:, None])
