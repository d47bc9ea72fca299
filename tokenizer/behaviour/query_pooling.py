"""Query-token pooling (QFormer): a few learnt queries read the tokens of an item, one token per block of content."""

import math

import torch
from torch import Tensor, nn

HEADS = 4
HIDDEN_SHARE = 2  # inner width of a feed-forward network, as a multiple of the token width


class QueryPooling(nn.Module):
    """Pool blocks of content [B,D_i] into `queries` vectors of `width` each, flattened to [B, queries*width].

    In the OneRec Technical Report (arXiv 2506.13695, tokenizer section) each layer computes Q <- CrossAttn(Q, M, M) and
    Q <- FFN(RMSNorm(Q)) over the item's tokens M. This network has no pretrained weights and learns from thousands of items,
    so it differs: both steps are residual, Q starts from an orthogonal projection of the content, and the layers start by
    adding zero. Training therefore begins at the content vectors and changes them.

    `reconstruct` predicts the blocks from the pooled queries.
    """

    def __init__(self, block_widths: list[int], queries: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.queries, self.width = queries, width
        self.tokens = nn.ModuleList(nn.Linear(columns, width) for columns in block_widths)
        self.kinds_KW = nn.Parameter(0.02 * torch.randn(len(block_widths), width))
        self.start_MW = nn.Parameter(0.02 * torch.randn(queries, width))
        self.straight = nn.Linear(sum(block_widths), queries * width, bias=False)
        nn.init.orthogonal_(self.straight.weight)
        self.layers = nn.ModuleList(_Layer(width, dropout) for _ in range(layers))
        self.read_out = nn.Linear(queries * width, sum(block_widths))

    def forward(self, blocks: list[Tensor]) -> Tensor:
        """[B,D_i] each -> [B, queries*width]."""
        tokens_BKW = torch.stack([token(x_BD) for token, x_BD in zip(self.tokens, blocks, strict=True)], dim=1)
        tokens_BKW = tokens_BKW + self.kinds_KW
        straight_BMW = self.straight(torch.cat(blocks, dim=1)).view(-1, self.queries, self.width)
        queries_BMW = self.start_MW + straight_BMW
        for layer in self.layers:
            queries_BMW = layer(queries_BMW, tokens_BKW)
        return queries_BMW.flatten(1)

    def reconstruct(self, pooled_BW: Tensor) -> Tensor:
        """[B, queries*width] -> the blocks side by side, [B, sum D_i]."""
        read: Tensor = self.read_out(pooled_BW)
        return read


class _Layer(nn.Module):
    """Cross-attention from queries to tokens, then a feed-forward network, each after an RMSNorm."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_network = nn.RMSNorm(width), nn.RMSNorm(width)
        self.ask, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        hidden = HIDDEN_SHARE * width
        narrow = nn.Linear(hidden, width, bias=False)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(dropout), narrow)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(narrow.weight)

    def forward(self, queries_BMW: Tensor, tokens_BKW: Tensor) -> Tensor:
        queries_BMW = queries_BMW + self._attend(self.before_attention(queries_BMW), tokens_BKW)
        fed: Tensor = queries_BMW + self.network(self.before_network(queries_BMW))
        return fed

    def _attend(self, queries_BMW: Tensor, tokens_BKW: Tensor) -> Tensor:
        """Attention over a few tokens by broadcasting, which is faster than thousands of tiny matrix products."""
        ask = self.ask(queries_BMW).unflatten(2, (HEADS, -1)).unsqueeze(2)  # B M 1 H E
        key = self.key(tokens_BKW).unflatten(2, (HEADS, -1)).unsqueeze(1)  # B 1 K H E
        value = self.value(tokens_BKW).unflatten(2, (HEADS, -1)).unsqueeze(1)
        share = ((ask * key).sum(dim=4) / math.sqrt(ask.shape[4])).softmax(dim=2)  # B M K H
        read: Tensor = self.out((share.unsqueeze(4) * value).sum(dim=2).flatten(2))
        return read
