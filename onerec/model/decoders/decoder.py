"""The decoder of the OneRec Technical Report: every layer projects the history to keys and values of its own."""

from typing import cast

from torch import Tensor, nn

from onerec.model.decoders.code_decoder import CodeDecoder, CodeLayer
from onerec.model.layers.attention import CrossAttention, KeysValues, SelfAttention, rotary_angles
from onerec.model.layers.layer_sizes import LayerSizes


class DecoderLayer(CodeLayer):
    """A layer that reads its codes first, and makes keys and values of the history with a projection of its own."""

    cross_first = False

    def __init__(self, sizes: LayerSizes, layer: int) -> None:
        super().__init__()
        width, heads, dropout = sizes.width, sizes.heads, sizes.dropout
        self.self_norm, self.self_attention = nn.RMSNorm(width), SelfAttention(width, heads, dropout)
        self.cross_norm, self.cross_attention = nn.RMSNorm(width), CrossAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.RMSNorm(width), sizes.feed_forward(layer)
        self.dropout = nn.Dropout(dropout)


class Decoder(CodeDecoder):
    """The decoder of the OneRec Technical Report (arXiv 2506.13695, decoder section)."""

    def __init__(self, layers: int, sizes: LayerSizes, level_sizes: tuple[int, ...]) -> None:
        super().__init__([DecoderLayer(sizes, layer) for layer in range(layers)], sizes, level_sizes)

    def keys_values(self, states_BSD: Tensor, positions: Tensor) -> list[KeysValues]:
        angles = rotary_angles(positions, self.head_width)
        projections = [cast(CrossAttention, layer.cross_attention) for layer in self.blocks]
        return [project.keys_values(states_BSD, angles) for project in projections]
