"""The sizes that all layers of a stack share."""

from dataclasses import dataclass

from onerec.model.layers.attention import FeedForward
from onerec.model.layers.experts import ExpertsSpec, MixtureOfExperts


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of the layers of an encoder or decoder.

    Attributes:
        width: model width D.
        heads: attention heads.
        hidden_width: width inside a plain feed-forward network.
        dropout: probability of dropping an attention weight, or a feature of the residual stream, in training.
        experts: experts that replace the feed-forward networks; None where there are none.
    """

    width: int
    heads: int
    hidden_width: int
    dropout: float
    experts: ExpertsSpec | None = None

    @property
    def head_width(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    def feed_forward(self, layer: int) -> FeedForward | MixtureOfExperts:
        """The feed-forward part of layer number `layer`, counted from 0: a plain network, or experts."""
        if self.experts is None or layer < self.experts.dense_layers:
            return FeedForward(self.width, self.hidden_width)
        return MixtureOfExperts(self.width, self.experts)
