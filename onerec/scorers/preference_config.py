"""The settings of the reward model. docs/rewards.md and `configs/demo.yaml` explain them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from onerec.train.trainer import TrainConfig

Half = Literal["first", "second"]


class RewardTrainConfig(TrainConfig):
    """How the reward model is trained. Unlike the generator's, its default rate does not depend on its size."""

    epochs: int = Field(10, gt=0)
    batch_size: int = Field(16, gt=0)
    learning_rate: float | None = Field(0.002, gt=0)
    average_decay: float = Field(0.99, ge=0, lt=1)
    patience: int = Field(4, gt=0)


class RewardSelectionConfig(BaseModel):
    """How the reward model re-ranks a beam; weight 1 ranks by its score alone, 0 by the generator's probability."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_width: int = Field(128, ge=10)
    weight: float | None = Field(None, ge=0, le=1)


class RewardConfig(BaseModel):
    """What the reward model (P-Score) predicts, its sizes, its training, and how it re-ranks a beam."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objectives: list[str] | Literal["all"] = "all"
    weights: list[float] | None = None
    half: Half | None = None
    history_length: int = Field(50, gt=0)
    width: int = Field(32, gt=0)
    heads: int = Field(2, gt=0)
    tower_width: int = Field(32, gt=0)
    feature_width: int = Field(8, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    own_dropout: float = Field(0.2, ge=0, lt=1)
    feature_dropout: float = Field(0.1, ge=0, lt=1)
    negatives: int = Field(4, gt=0)
    fusion_weight: float = Field(1.0, gt=0)
    validation_share: float = Field(0.1, gt=0, lt=1)
    train: RewardTrainConfig = RewardTrainConfig()
    selection: RewardSelectionConfig = RewardSelectionConfig()
