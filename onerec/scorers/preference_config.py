"""The settings of the reward model; what they mean for it stands in `rl.preference_model` and docs/rewards.md."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from onerec.train.trainer import TrainConfig

Half = Literal["first", "second"]


class RewardTrainConfig(TrainConfig):
    """How the reward model is trained: keys as for the generator, with fewer epochs, a fixed rate and averaged weights."""

    epochs: int = Field(10, gt=0)
    batch_size: int = Field(16, gt=0)
    learning_rate: float | None = Field(0.002, gt=0)
    average_decay: float = Field(0.99, ge=0, lt=1)
    patience: int = Field(4, gt=0)


class RewardSelectionConfig(BaseModel):
    """How the reward model selects from the beam.

    beam_width: items that the generator proposes. weight: of the score against the generator's probability, from 0 to 1, where 1
    ranks by the score alone; None: the one that ranks validation cases best.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam_width: int = Field(128, ge=10)
    weight: float | None = Field(None, ge=0, le=1)


class RewardConfig(BaseModel):
    """What the reward model (P-Score) predicts, its sizes and its training.

    objectives: signals of dataset.yaml, a tower each; "all": every one, or where there are fewer than two the next item.
    weights: of the objectives in the fusion score, in their order; below 0 for one that speaks against an item. None: all 1.
    half: which users it learns from; None: all. negatives: items drawn beside every event where the next item is predicted.
    fusion_weight: of the fusion's loss beside those of the towers. validation_share: of users whose validation events are kept
    out of training, to stop by. selection: how it selects from the beam once it is trained.
    """

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
