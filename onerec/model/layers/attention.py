"""Attention and feed-forward blocks shared by encoder and decoder: pre-norm RMSNorm, rotary positions, SwiGLU."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onerec.model.layers.linear import Linear


def rotary_angles(positions: Tensor, head_width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[..., head_width / 2]` of rotary position embeddings (RoFormer, arXiv 2104.09864)."""
    frequencies = base ** (-torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    angles = positions[..., None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of features by its position's angle; `x` is `[..., heads, sequence, head width]`."""
    cosine, sine = angles[0].to(x.dtype), angles[1].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    if torch.is_grad_enabled():
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    # The same with half as many passes over memory, which writing in place allows where nothing is differentiated.
    turned = x * torch.cat([cosine, cosine], dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sine, value=-1)
    turned_second.addcmul_(first, sine)
    return turned


class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence, with rotary positions.

    Args:
        width: model width D, a multiple of `heads`.
        heads: number of heads; width / heads must be even for the rotation.
        dropout: probability that an attention weight is dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project_in = Linear(width, 3 * width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `[..., heads, sequence, head width]`, not rotated yet."""
        query, key, value = self.project_in(x).chunk(3, dim=-1)
        shape = "... t (h d) -> ... h t d"
        return (
            rearrange(query, shape, h=self.heads),
            rearrange(key, shape, h=self.heads),
            rearrange(value, shape, h=self.heads),
        )

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend within `x` `[..., T, D]`. `mask` is boolean and true where attention is allowed."""
        query, key, value = self.heads_of(x)
        attended = functional.scaled_dot_product_attention(
            rotate(query, angles),
            rotate(key, angles),
            value,
            attn_mask=mask,
            is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.project_out(rearrange(attended, "... h t d -> ... t (h d)"))

    def step(self, x_BKD: Tensor, past: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from the newest token of every beam to itself and to that beam's past.

        Rotary attention sees only how far apart two tokens are. So the newest token is not turned at all, and the past, which
        many beams share, is turned back instead.

        Args:
            past: per token before, oldest first, keys turned by their place relative to the newest token, and values, each
                `[B, K or 1, heads, head width]`.

        Returns:
            The output `[B, K, D]`, and the newest token's own keys (not turned) and values.
        """
        query, key, value = self.project_in(x_BKD).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        # A handful of keys per query: products summed in place of a batched product of tiny matrices.
        scores = torch.stack([(query * one).sum(dim=-1) for one in (*(keys for keys, _ in past), key)])
        # Softmax over the first dimension: the last would be done row by row, a handful of numbers each.
        weights = scores.mul_(query.shape[-1] ** -0.5).softmax(dim=0)[..., None]
        attended = weights[-1] * value
        for weight, (_, other) in zip(weights, past, strict=False):
            attended.addcmul_(weight, other)
        return self.project_out(attended.flatten(-2)), (key, value)


class CrossAttention(nn.Module):
    """Attention from target tokens to the encoded history.

    Keys and values are made once per context (`keys_values`) and reused by every beam and step. Queries are rotated to the
    place of the item they predict, one past the last item they may see, so a head can tell recent from old.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project_query = Linear(width, width, bias=False)
        self.project_context = Linear(width, 2 * width, bias=False)
        self.project_out = Linear(width, width, bias=False)

    def keys_values(self, context_BTD: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Rotated keys and values `[B, heads, T, head width]` of a context."""
        key, value = self.project_context(context_BTD).chunk(2, dim=-1)
        key = rearrange(key, "b t (h d) -> b h t d", h=self.heads)
        return rotate(key, angles), rearrange(value, "b t (h d) -> b h t d", h=self.heads)

    def forward(
        self, x_BQD: Tensor, angles: tuple[Tensor, Tensor] | None, keys_values: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        """Attend from queries `[B, Q, D]` to a context.

        Args:
            angles: of the queries; None where the keys were turned relative to them.
            mask: boolean `[B or 1, 1, Q or 1, T]`.
        """
        query = rearrange(self.project_query(x_BQD), "b q (h d) -> b h q d", h=self.heads)
        query = query if angles is None else rotate(query, angles)
        attended = functional.scaled_dot_product_attention(
            query, *keys_values, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        return self.project_out(rearrange(attended, "b h q d -> b q (h d)"))


class FeedForward(nn.Module):
    """SwiGLU feed-forward network (arXiv 2002.05202) with a hidden width of its own, counted before the gate."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = Linear(width, 2 * hidden_width, bias=False)
        self.contract = Linear(hidden_width, width, bias=False)

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Outputs `[..., D]`. `counted` is for the mixture of experts, which is called the same way; here nothing is counted."""
        gate, value = self.expand(x).chunk(2, dim=-1)
        output: Tensor = self.contract(functional.silu(gate) * value)
        return output
