"""Sizes and choices of a generator: a section of a run's config, and `config.json` of a saved model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.data.features import PathwaysConfig
from onerec.errors import UserError
from tokenizer.common.settings import Layers, Length, Settings, Width


class GeneratorConfig(Settings):
    """Sizes and choices of encoder and decoder. Widths count features; dropouts are probabilities."""

    width: Width = 128
    heads: Width = 4
    encoder_layers: Layers = 2
    decoder_layers: int = Field(2, gt=0, le=1_000)
    hidden_width: Width = 256
    decoder: Literal["encoder_decoder", "lazy"] = "encoder_decoder"
    key_value_layers: int = Field(1, gt=0)
    key_value_split: Literal[1, 2] = 1
    key_value_groups: int | None = Field(None, gt=0)
    experts: int = Field(0, ge=0, le=65_536)
    experts_active: Width = 2
    expert_hidden_width: Width = 128
    shared_expert: bool = False
    balance_step: float = Field(0.001, ge=0)
    expert_layers: Literal["decoder", "encoder_and_decoder"] = "decoder"
    dense_layers: int = Field(0, ge=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    context: Literal["causal", "bidirectional"] = "causal"
    own_embedding: bool = True
    own_dropout: float = Field(0.2, ge=0, lt=1)
    softmax: Literal["legal", "full"] = "legal"
    item_head: bool = True
    item_loss: float = Field(0.0, ge=0)
    item_loss_sample: int = Field(16384, gt=0)
    lookahead: bool | Literal["auto"] = "auto"
    history_length: Length = 50
    pathways: PathwaysConfig = PathwaysConfig()

    def settled(self, item_count: int) -> Self:
        """The config for a catalogue. `lookahead: auto` becomes true where the item loss covers the whole catalogue anyway."""
        if self.lookahead != "auto":
            return self
        affordable = self.item_loss > 0 and self.softmax == "legal" and item_count <= self.item_loss_sample
        return self.model_copy(update={"lookahead": affordable})

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raise a UserError if choices contradict each other."""
        if self.width % (2 * self.heads):
            raise UserError(f"generator.width is {self.width}; it must be a multiple of 2 x heads = {2 * self.heads}")
        if self.item_head and self.softmax == "full":
            raise UserError(
                "generator.item_head works with legal codes only: set generator.softmax=legal or item_head=false"
            )
        if self.lookahead is True and self.softmax == "full":
            raise UserError(
                "generator.lookahead works with legal codes only: set generator.softmax=legal or lookahead=false"
            )
        if self.decoder == "lazy" and self.heads % (self.key_value_groups or self.heads):
            raise UserError(
                f"generator.key_value_groups is {self.key_value_groups}; it must divide the {self.heads} heads"
            )
        if self.decoder == "lazy" and self.key_value_layers > self.decoder_layers:
            raise UserError(
                f"generator.key_value_layers is {self.key_value_layers}; it must be at most the {self.decoder_layers} decoder "
                "layers that read them"
            )
        if self.experts and self.experts_active > self.experts:
            raise UserError(
                f"generator.experts_active is {self.experts_active}; it must be at most the {self.experts} experts"
            )
        lifelong = self.pathways.lifelong
        if lifelong is not None and lifelong.events < lifelong.representatives:
            raise UserError(
                f"generator.pathways.lifelong.events is {lifelong.events}; it must be at least the {lifelong.representatives} "
                "representatives"
            )
        return self
