"""The lazy decoder of OneRec-V2 (arXiv 2508.20900): the history is projected once, and no layer projects it again."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.decoders.code_decoder import CodeDecoder, CodeLayer
from onerec.model.layers.attention import Angles, KeysValues, SelfAttention, rotary_angles, rotate
from onerec.model.layers.layer_sizes import LayerSizes
from onerec.model.layers.linear import Linear


class ContextProcessor(nn.Module):
    """Project context tokens to a few sets of keys and values, which the layers share.

    A token is projected to `split x sets x groups x head_width` features, cut into chunks of groups x head width. The keys of
    set l are RMSNorm(chunk l·split). With a split of 2 its values are RMSNorm(chunk l·split + 1); with a split of 1 they are
    its keys.

    The report does not say how order enters. Here keys are rotated to the position of their item. Values are not rotated: with
    a split of 1 they are the keys before rotation.

    Args:
        width: width of a context token.
        sets: sets of keys and values (L_kv).
        split: 1 where values are the keys, 2 where values have chunks of their own (S_kv).
        groups: key and value heads (G_kv).
        head_width: features of one head.
    """

    def __init__(self, width: int, sets: int, split: int, groups: int, head_width: int) -> None:
        super().__init__()
        self.split, self.groups, self.head_width = split, groups, head_width
        self.project = Linear(width, split * sets * groups * head_width, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(groups * head_width) for _ in range(split * sets))

    def forward(self, states_BTD: Tensor, positions: Tensor) -> list[KeysValues]:
        """Per set, rotated keys, and values, `[B, groups, T, head width]` of states at positions `[T]` or `[B, 1, T]`."""
        angles = rotary_angles(positions, self.head_width)
        chunks = self.project(states_BTD).chunk(len(self.norms), dim=-1)
        normed = [
            rearrange(norm(chunk), "b t (g d) -> b g t d", g=self.groups)
            for norm, chunk in zip(self.norms, chunks, strict=True)
        ]
        keys, values = normed[:: self.split], normed[self.split - 1 :: self.split]
        return [(rotate(key, angles), value) for key, value in zip(keys, values, strict=True)]


class LazyCrossAttention(nn.Module):
    """Attention to ready-made keys and values. Only queries and outputs are projected, and groups of heads share keys."""

    def __init__(self, width: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.groups, self.dropout = heads, groups, dropout
        self.project_query = Linear(width, width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def forward(self, x_BQD: Tensor, angles: Angles | None, keys_values: KeysValues, mask: Tensor) -> Tensor:
        """Attend from queries `[B, Q, D]` to a context; arguments as in `CrossAttention`."""
        query = rearrange(self.project_query(x_BQD), "b q (h d) -> b h q d", h=self.heads)
        query = query if angles is None else rotate(query, angles)
        # The heads of a group become extra queries of one head, so keys and values are never copied per head.
        shared = self.heads // self.groups
        query = rearrange(query, "b (g s) q d -> b g (s q) d", s=shared)
        mask = mask if shared == 1 or mask.shape[2] == 1 else mask.repeat(1, 1, shared, 1)
        attended = functional.scaled_dot_product_attention(
            query, *keys_values, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.project_out(rearrange(attended, "b g (s q) d -> b q (g s d)", s=shared))


class LazyLayer(CodeLayer):
    """h <- h + CrossAttn(RMSNorm(h), k, v); h <- h + CausalSelfAttn(RMSNorm(h)); h <- h + FFN(RMSNorm(h))."""

    cross_first = True

    def __init__(self, sizes: LayerSizes, layer: int, groups: int) -> None:
        super().__init__()
        width, heads, dropout = sizes.width, sizes.heads, sizes.dropout
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), LazyCrossAttention(width, heads, groups, dropout)
        self.self_norm, self.self_attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), sizes.feed_forward(layer)
        self.dropout = nn.Dropout(dropout)


class LazyDecoder(CodeDecoder):
    """The decoder of OneRec-V2 (arXiv 2508.20900, architecture section).

    Layer l of N reads set floor(l · L_kv / N). Without encoder layers before it, this is the report's model: the cost of a
    context token does not depend on the depth. With encoder layers, it is a decoder with shared keys behind an encoder.

    Args:
        layers: number of decoder layers N.
        sizes: sizes of every layer.
        level_sizes: codebook size of each level.
        key_value_layers: sets of keys and values (L_kv), at most `layers`.
        key_value_split: 1 or 2 (S_kv).
        key_value_groups: key and value heads (G_kv), a divisor of the number of heads.
    """

    def __init__(
        self,
        layers: int,
        sizes: LayerSizes,
        level_sizes: tuple[int, ...],
        *,
        key_value_layers: int,
        key_value_split: int,
        key_value_groups: int,
    ) -> None:
        super().__init__([LazyLayer(sizes, layer, key_value_groups) for layer in range(layers)], sizes, level_sizes)
        self.key_value_layers = key_value_layers
        self.context_processor = ContextProcessor(
            sizes.width, key_value_layers, key_value_split, key_value_groups, sizes.head_width
        )

    def keys_values(self, states_BSD: Tensor, positions: Tensor) -> list[KeysValues]:
        sets, layers = self.context_processor(states_BSD, positions), len(self.layers)
        return [sets[layer * self.key_value_layers // layers] for layer in range(layers)]
