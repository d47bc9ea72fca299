"""The settings of the reward model. docs/rewards.md and `configs/demo.yaml` explain them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from onerec.train.trainer import TrainConfig
from tokenizer.common.settings import Length, Settings, Width

Half = Literal["first", "second"]


class RewardTrainConfig(TrainConfig):
    """How the reward model is trained. Unlike the generator's, its default rate does not depend on its size."""

    epochs: int = Field(10, gt=0, le=1_000_000)
    batch_size: Length = 16
    learning_rate: float | None = Field(0.002, gt=0)
    average_decay: float = Field(0.99, ge=0, lt=1)
    patience: int = Field(4, gt=0)


class RewardSelectionConfig(Settings):
    """How the reward model re-ranks a beam; weight 1 ranks by its score alone, 0 by the generator's probability."""

    beam_width: int = Field(128, ge=10, le=100_000)
    weight: float | None = Field(None, ge=0, le=1)


class RewardConfig(Settings):
    """What the reward model (P-Score) predicts, its sizes, its training, and how it re-ranks a beam."""

    objectives: list[str] | Literal["all"] = "all"
    weights: list[float] | None = None
    half: Half | None = None
    history_length: Length = 50
    width: Width = 32
    heads: Width = 2
    tower_width: Width = 32
    feature_width: Width = 8
    dropout: float = Field(0.1, ge=0, lt=1)
    own_dropout: float = Field(0.2, ge=0, lt=1)
    feature_dropout: float = Field(0.1, ge=0, lt=1)
    negatives: Length = 4
    fusion_weight: float = Field(1.0, gt=0)
    validation_share: float = Field(0.1, gt=0, lt=1)
    train: RewardTrainConfig = RewardTrainConfig()
    selection: RewardSelectionConfig = RewardSelectionConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise UserError(f"reward.width ({self.width}) must be a multiple of reward.heads ({self.heads})")
        if self.objectives == []:
            raise UserError("reward.objectives: names no objective; give one, or all")
        if self.weights is not None and not any(weight > 0 for weight in self.weights):
            raise UserError("reward.weights: one of them must be more than 0, or the fused score learns nothing")
        if isinstance(self.objectives, list):
            self.check_weights(self.objectives)
        return self

    def check_weights(self, objectives: list[str]) -> None:
        """Raise UserError unless there is a weight for each of the objectives."""
        if self.weights is not None and len(self.weights) != len(objectives):
            raise UserError(f"reward.weights: give {len(objectives)} weights, one for each of {', '.join(objectives)}")
