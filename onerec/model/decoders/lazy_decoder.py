"""The lazy decoder of OneRec-V2 (arXiv 2508.20900): the history is projected once, and no layer projects it again."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.decoders.decoder import CodeDecoder, CodeLayer, EncodedContext, KeysValues
from onerec.model.history.prefix import Prefix
from onerec.model.layers.attention import SelfAttention, rotary_angles, rotate
from onerec.model.layers.experts import ExpertsSpec, experts_of_layer, make_feed_forward
from onerec.model.layers.linear import Linear


class ContextProcessor(nn.Module):
    """Context tokens to a few sets of keys and values that all layers share.

    A token is projected to `split x sets x groups x head_width` features, which are cut into chunks of groups x head width.
    Set l has the keys RMSNorm(chunk l·split), and the values RMSNorm(chunk l·split + 1) with a split of 2, or its keys with 1.

    Order enters by rotary positions, which the report does not spell out: keys are rotated to their item's place. Values are not;
    where they are the keys, they are the keys as they were before the rotation.

    Args:
        width: width of a context token.
        sets: sets of keys and values (L_kv).
        split: 1, values are the keys, or 2, values have chunks of their own (S_kv).
        groups: key and value heads (G_kv).
        head_width: features of a head.
    """

    def __init__(self, width: int, sets: int, split: int, groups: int, head_width: int) -> None:
        super().__init__()
        self.split, self.groups, self.head_width = split, groups, head_width
        self.project = Linear(width, split * sets * groups * head_width, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(groups * head_width) for _ in range(split * sets))

    def forward(self, states_BTD: Tensor, positions: Tensor) -> list[KeysValues]:
        """Per set, rotated keys and values `[B, groups, T, head width]` of states at positions `[T]` or `[B, 1, T]`."""
        angles = rotary_angles(positions, self.head_width)
        chunks = self.project(states_BTD).chunk(len(self.norms), dim=-1)
        normed = [
            rearrange(norm(chunk), "b t (g d) -> b g t d", g=self.groups)
            for norm, chunk in zip(self.norms, chunks, strict=True)
        ]
        keys, values = normed[:: self.split], normed[self.split - 1 :: self.split]
        return [(rotate(key, angles), value) for key, value in zip(keys, values, strict=True)]


class LazyCrossAttention(nn.Module):
    """Attention to ready-made keys and values: only queries and outputs are projected, and heads share keys in groups."""

    def __init__(self, width: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.groups, self.dropout = heads, groups, dropout
        self.project_query = Linear(width, width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def forward(
        self, x_BQD: Tensor, angles: tuple[Tensor, Tensor] | None, keys_values: KeysValues, mask: Tensor
    ) -> Tensor:
        """Attend from queries `[B, Q, D]` to a context; arguments as in `CrossAttention`."""
        query = rearrange(self.project_query(x_BQD), "b q (h d) -> b h q d", h=self.heads)
        query = query if angles is None else rotate(query, angles)
        # The heads of a group become further queries of one head, so keys and values are never copied per head.
        shared = self.heads // self.groups
        query = rearrange(query, "b (g s) q d -> b g (s q) d", s=shared)
        mask = mask if shared == 1 or mask.shape[2] == 1 else mask.repeat(1, 1, shared, 1)
        attended = functional.scaled_dot_product_attention(
            query,
            *keys_values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.project_out(rearrange(attended, "b g (s q) d -> b q (g s d)", s=shared))


class LazyLayer(CodeLayer):
    """h <- h + CrossAttn(RMSNorm(h), k, v); h <- h + CausalSelfAttn(RMSNorm(h)); h <- h + FFN(RMSNorm(h))."""

    cross_first = True

    def __init__(
        self,
        width: int,
        heads: int,
        groups: int,
        hidden_width: int,
        dropout: float,
        experts: ExpertsSpec | None = None,
    ) -> None:
        super().__init__()
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), LazyCrossAttention(width, heads, groups, dropout)
        self.self_norm, self.self_attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), make_feed_forward(width, hidden_width, experts)
        self.dropout = nn.Dropout(dropout)


class LazyDecoder(CodeDecoder):
    """The decoder of OneRec-V2 (arXiv 2508.20900, architecture section).

    Layer l of N reads set floor(l · L_kv / N). With no encoder layers before it, this is the report's model: what a context token
    costs does not depend on the depth. With encoder layers it is a decoder with shared keys behind an encoder.

    Args:
        layers: decoder layers N.
        key_value_layers: sets of keys and values (L_kv), at most `layers`.
        key_value_split: 1 or 2 (S_kv).
        key_value_groups: key and value heads (G_kv), a divisor of `heads`.
        experts: experts of the layers behind `dense_layers`.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        hidden_width: int,
        dropout: float,
        level_sizes: tuple[int, ...],
        *,
        key_value_layers: int,
        key_value_split: int,
        key_value_groups: int,
        experts: ExpertsSpec | None = None,
    ) -> None:
        stack = [
            LazyLayer(width, heads, key_value_groups, hidden_width, dropout, experts_of_layer(experts, layer))
            for layer in range(layers)
        ]
        super().__init__(stack, width, heads, dropout, level_sizes)
        self.key_value_layers = key_value_layers
        self.context_processor = ContextProcessor(
            width, key_value_layers, key_value_split, key_value_groups, width // heads
        )

    def read_context(
        self, states_BTD: Tensor, prefix: Prefix | None = None, last_B: Tensor | None = None
    ) -> EncodedContext:
        sets, layers = self.context_processor(*self._keys_of(states_BTD, prefix, last_B)), len(self.layers)
        keys_values = [sets[layer * self.key_value_layers // layers] for layer in range(layers)]
        prefix_BP = None if prefix is None else prefix.filled_BP
        return EncodedContext(states_BTD, keys_values, prefix_BP, relative=last_B is not None)
