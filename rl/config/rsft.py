"""The settings of RSFT. docs/alignment.md and `configs/demo.yaml` explain them."""

from typing import Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from onerec.train.trainer import TrainConfig
from tokenizer.common.settings import Settings


class RsftTrainConfig(TrainConfig):
    """How training goes on: fewer epochs at a smaller rate.

    The Technical Report (arXiv 2506.13695) updates embeddings at 1e-4 and other weights at 8e-5. Here all have one rate, 1e-4.
    """

    epochs: int = Field(3, gt=0, le=1_000_000)
    learning_rate: float | None = Field(0.0001, gt=0)
    warmup_steps: int = Field(20, ge=0)
    patience: int = Field(2, gt=0)
    checkpoint_every: int = Field(200, gt=0)


class RsftConfig(Settings):
    """What a session is, which sessions are dropped, and how training goes on with the others.

    With `session_events`, a user's last session may be shorter.
    """

    session_gap: float | None = Field(None, gt=0)
    session_events: int | None = Field(None, gt=0)
    dropped_share: float = Field(0.5, gt=0, lt=1)
    train: RsftTrainConfig = RsftTrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.session_gap is None) == (self.session_events is None):
            raise UserError("rsft: set session_gap, or for a log without times session_events; one of the two")
        return self
