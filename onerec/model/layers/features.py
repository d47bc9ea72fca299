"""Small embeddings of the features of events, items and users. Code 0 means unknown and has an embedding like any other code."""

import torch
from torch import Tensor, nn

from onerec.data.features import FeatureVocabulary
from onerec.model.layers.linear import Linear


class FeatureEmbeddings(nn.Module):
    """One embedding per feature, side by side. One table holds the embeddings of all features.

    Args:
        sizes: number of codes of each feature.
        width: width of one embedding.
    """

    starts_F: Tensor

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes]).cumsum(0)
        self.register_buffer("starts_F", starts[:-1], persistent=False)
        self.table_embeddings = nn.Embedding(int(starts[-1]), width)
        self.width = len(sizes) * width
        self.scale = width**0.5  # as in `ItemTokens`: the table starts small and is scaled up on reading
        nn.init.normal_(self.table_embeddings.weight, std=width**-0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """Embeddings `[..., F x width]` of codes `[..., F]`."""
        read: Tensor = self.table_embeddings(codes + self.starts_F).flatten(-2) * self.scale
        return read

    def mean(self, codes: Tensor) -> Tensor:
        """Embeddings `[..., F x width]` of features with up to M codes each, `[..., F, M]`.

        The embedding of a feature is the mean over its codes other than 0. A feature without such a code is unknown.
        """
        read = self.table_embeddings(codes + self.starts_F[:, None])
        counted = codes > 0
        counted = torch.cat([counted[..., :1] | ~counted.any(dim=-1, keepdim=True), counted[..., 1:]], dim=-1)
        mean = (read * counted[..., None]).sum(dim=-2) / counted.sum(dim=-1, keepdim=True)
        return mean.flatten(-2) * self.scale


def projection(joined_width: int, width: int) -> nn.Sequential:
    """Dense, LeakyReLU, Dense and a norm: from embeddings side by side to the model's width."""
    return nn.Sequential(Linear(joined_width, width), nn.LeakyReLU(), Linear(width, width), nn.RMSNorm(width))


def drop_rows(codes: Tensor, probability: float, training: bool) -> Tensor:
    """Codes `[..., F]`. In training, some rows become unknown as a whole, so that a model learns to do without them."""
    if not training or probability == 0:
        return codes
    return codes * (torch.rand(*codes.shape[:-1], 1, device=codes.device) >= probability)


class EventFeatures(nn.Module):
    """Features that are part of a token beside its codes and own embedding: those of the event, then those of its item.

    Args:
        vocabulary: the features; at least one of events or items.
        width: width of one feature's embedding.
        dropout: probability that an event loses its features in training. The features of its item stay.
    """

    item_codes_NGM: Tensor

    def __init__(self, vocabulary: FeatureVocabulary, width: int, dropout: float) -> None:
        super().__init__()
        event, item = ([column.size for column in columns] for columns in (vocabulary.event, vocabulary.item))
        self.event_count, self.dropout = len(event), dropout
        self.events = FeatureEmbeddings(event, width) if event else None
        self.items = FeatureEmbeddings(item, width) if item else None
        self.register_buffer("item_codes_NGM", torch.from_numpy(vocabulary.item_codes_NGM).long(), persistent=False)
        self.width = (len(event) + len(item)) * width

    def forward(self, items: Tensor, features: Tensor | None) -> Tensor:
        """Embeddings `[..., width]` of items `[...]` with event features `[..., F]`. None: all event features are unknown."""
        parts = []
        if self.events is not None:
            if features is None:
                features = items.new_zeros(*items.shape, self.event_count)
            parts.append(self.events(drop_rows(features, self.dropout, self.training)))
        if self.items is not None:
            parts.append(self.items.mean(self.item_codes_NGM[items]))
        return torch.cat(parts, dim=-1)
