"""Attention and feed-forward blocks that encoder and decoders share: rotary positions and SwiGLU."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.layers.linear import Linear

Angles = tuple[Tensor, Tensor]  # cosines and sines
KeysValues = tuple[Tensor, Tensor]


def rotary_angles(positions: Tensor, head_width: int, base: float = 10_000.0) -> Angles:
    """Cosines and sines `[..., head_width / 2]` of rotary position embeddings (RoFormer, arXiv 2104.09864)."""
    frequencies = base ** (-torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    angles = positions[..., None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotate each pair of features by the angle of its position; `x` is `[..., heads, sequence, head width]`."""
    cosine, sine = angles[0].to(x.dtype), angles[1].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    if torch.is_grad_enabled():
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    # Without gradients we may write in place, which needs half as many passes over memory.
    rotated = x * torch.cat([cosine, cosine], dim=-1)
    rotated_first, rotated_second = rotated.chunk(2, dim=-1)
    rotated_first.addcmul_(second, sine, value=-1)
    rotated_second.addcmul_(first, sine)
    return rotated


class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence, with rotary positions.

    Args:
        width: model width D, a multiple of `heads`.
        heads: number of heads. width / heads must be even, because rotation works on pairs of features.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project_in = Linear(width, 3 * width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Angles, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Attend within `x` `[..., T, D]`. `mask` is boolean and true where attention is allowed."""
        query, key, value = (
            rearrange(part, "... t (h d) -> ... h t d", h=self.heads) for part in self.project_in(x).chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(
            rotate(query, angles),
            rotate(key, angles),
            value,
            attn_mask=mask,
            is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.project_out(rearrange(attended, "... h t d -> ... t (h d)"))

    def step(self, x_BKD: Tensor, past: list[KeysValues]) -> tuple[Tensor, KeysValues]:
        """Attend from the newest token of every beam to itself and to the earlier tokens of that beam.

        Rotary attention depends only on the distance between two tokens. So the newest token stays unrotated, and the earlier
        keys, which many beams share, are rotated back instead.

        Args:
            past: keys and values of each earlier token, oldest first, each `[B, K or 1, heads, head width]`. The keys are
                rotated by their position relative to the newest token.

        Returns:
            The output `[B, K, D]`, and the newest token's own keys (not rotated) and values.
        """
        query, key, value = self.project_in(x_BKD).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        # Each query has only a handful of keys. Summed products are faster here than a batched product of tiny matrices.
        scores = torch.stack([(query * one).sum(dim=-1) for one in (*(keys for keys, _ in past), key)])
        # Softmax runs over the first dimension. Over the last, it would work row by row on a handful of numbers each.
        weights = scores.mul_(query.shape[-1] ** -0.5).softmax(dim=0)[..., None]
        attended = weights[-1] * value
        for weight, (_, other) in zip(weights, past, strict=False):
            attended.addcmul_(weight, other)
        return self.project_out(attended.flatten(-2)), (key, value)


class CrossAttention(nn.Module):
    """Attention from target tokens to the encoded history.

    `keys_values` projects the context once; every beam and step reuses the result. A query is rotated to the position of the
    item it predicts, one past the last item it may see. So a head can tell recent items from old ones.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project_query = Linear(width, width, bias=False)
        self.project_context = Linear(width, 2 * width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def keys_values(self, context_BTD: Tensor, angles: Angles) -> KeysValues:
        """Rotated keys, and values, of a context: each `[B, heads, T, head width]`."""
        key, value = self.project_context(context_BTD).chunk(2, dim=-1)
        key = rearrange(key, "b t (h d) -> b h t d", h=self.heads)
        return rotate(key, angles), rearrange(value, "b t (h d) -> b h t d", h=self.heads)

    def forward(self, x_BQD: Tensor, angles: Angles | None, keys_values: KeysValues, mask: Tensor) -> Tensor:
        """Attend from queries `[B, Q, D]` to a context.

        Args:
            angles: rotation of the queries; None where the keys were rotated relative to them.
            mask: boolean `[B or 1, 1, Q or 1, T]`, true where attention is allowed.
        """
        query = rearrange(self.project_query(x_BQD), "b q (h d) -> b h q d", h=self.heads)
        query = query if angles is None else rotate(query, angles)
        attended = functional.scaled_dot_product_attention(
            query, *keys_values, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.project_out(rearrange(attended, "b h q d -> b q (h d)"))


class FeedForward(nn.Module):
    """SwiGLU feed-forward network (arXiv 2002.05202). `hidden_width` is the width after the gate."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = Linear(width, 2 * hidden_width, bias=False)
        self.contract = Linear(hidden_width, width, bias=False)

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Outputs `[..., D]`. `counted` is ignored: it is here because `MixtureOfExperts` is called the same way."""
        gate, value = self.expand(x).chunk(2, dim=-1)
        output: Tensor = self.contract(functional.silu(gate) * value)
        return output
