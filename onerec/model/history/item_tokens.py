"""Context tokens: one token per item of the history, however many codes its ID has."""

import torch
from torch import Tensor, nn

from onerec.model.layers.features import EventFeatures
from onerec.model.layers.linear import Linear


class ItemTokens(nn.Module):
    """Turn history items into context tokens.

    A token joins the embeddings of the item's L codes and, if asked for, an embedding of its own. The joined vector passes
    through Dense, LeakyReLU, Dense, the projection that OneRec's pathways share (Technical Report, arXiv 2506.13695), and then
    a norm. The own embedding memorises what the codes cannot tell apart. Dropping it at random in training keeps tokens
    readable for items that were never trained.

    Args:
        codes_NL: int64, the semantic ID of every item.
        level_sizes: codebook size of each level.
        width: model width D.
        own_embedding: whether every item has an embedding beside those of its codes.
        own_dropout: probability that a token loses its own embedding in training.
        features: features of the event and of its item, which are joined to the token too; None where there are none.
    """

    codes_NL: Tensor
    level_starts_L: Tensor

    def __init__(
        self,
        codes_NL: Tensor,
        level_sizes: tuple[int, ...],
        width: int,
        own_embedding: bool,
        own_dropout: float,
        features: EventFeatures | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("codes_NL", codes_NL, persistent=False)
        starts = torch.tensor([0, *level_sizes]).cumsum(0)
        self.register_buffer("level_starts_L", starts[:-1], persistent=False)
        self.code_embeddings = nn.Embedding(int(starts[-1]), width)
        self.own_embeddings = nn.Embedding(len(codes_NL), width) if own_embedding else None
        self.own_dropout, self.features = own_dropout, features
        # Tables start small and are scaled up on reading. Adam's steps have the same size for all parameters, so this lets
        # rows that are seen only a few times move far enough to matter.
        self.scale = width**0.5
        self.norm = nn.RMSNorm(width)
        parts = len(level_sizes) + int(own_embedding)
        self.joined_width = parts * width + (0 if features is None else features.width)
        self.project = nn.Sequential(Linear(self.joined_width, width), nn.LeakyReLU(), Linear(width, width))
        nn.init.normal_(self.code_embeddings.weight, std=width**-0.5)
        if self.own_embeddings is not None:
            nn.init.normal_(self.own_embeddings.weight, std=width**-0.5)

    def embed_codes(self, codes: Tensor, level: int) -> Tensor:
        """Embeddings `[..., D]` of one level's codes. Decoder and context read the same table."""
        return self.code_embeddings(codes + self.level_starts_L[level]) * self.scale

    def item_vectors(self, items: Tensor, own_dropout: float = 0.0) -> Tensor:
        """Vectors `[..., D]` of items `[...]` as targets: the sum of their codes' embeddings and, if there is one, their own."""
        vectors: Tensor = self.code_embeddings(self.codes_NL[items] + self.level_starts_L).sum(dim=-2)
        if self.own_embeddings is None:
            return vectors
        own = self.own_embeddings(items)
        if own_dropout > 0:
            own = own * (torch.rand(*items.shape, 1, device=items.device) >= own_dropout)
        return vectors + own

    def forward(self, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Tokens `[..., D]` of item numbers `[...]`; arguments as in `joined`."""
        return self.norm(self.project(self.joined(items, features)))

    def joined(self, items: Tensor, features: Tensor | None = None) -> Tensor:
        """All embeddings of items `[...]` side by side, `[..., joined_width]`.

        Args:
            items: int64 item numbers.
            features: int64 `[..., F]`, codes of the events' features. None: all of them are unknown.
        """
        parts = [self.code_embeddings(self.codes_NL[items] + self.level_starts_L).flatten(-2).mul_(self.scale)]
        if self.own_embeddings is not None:
            own = self.own_embeddings(items) * self.scale
            if self.training and self.own_dropout > 0:
                own = own * (torch.rand(*items.shape, 1, device=items.device) >= self.own_dropout)
            parts.append(own)
        if self.features is not None:
            parts.append(self.features(items, features))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
