"""The settings of RSFT; docs/alignment.md explains them."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from onerec.errors import UserError
from onerec.train.trainer import TrainConfig


class RsftTrainConfig(TrainConfig):
    """How training goes on: keys as for the generator, with fewer epochs at a smaller rate.

    learning_rate: that of the Technical Report's embeddings (arXiv 2506.13695); its other weights have 8e-5, here all have one.
    """

    epochs: int = Field(3, gt=0)
    learning_rate: float | None = Field(0.0001, gt=0)
    warmup_steps: int = Field(20, ge=0)
    patience: int = Field(2, gt=0)
    checkpoint_every: int = Field(200, gt=0)


class RsftConfig(BaseModel):
    """Which sessions are dropped, and how training goes on with the others.

    Attributes:
        session_gap: a longer pause between two exposures begins a new session; in the unit of a numeric time column, in seconds
            for dates and datetimes.
        session_events: exposures of a session, for logs without times; a user's last session may be shorter.
        dropped_share: share of the sessions, those with the least play time, whose events are no targets.
        train: see `RsftTrainConfig`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_gap: float | None = Field(None, gt=0)
    session_events: int | None = Field(None, gt=0)
    dropped_share: float = Field(0.5, gt=0, lt=1)
    train: RsftTrainConfig = RsftTrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.session_gap is None) == (self.session_events is None):
            raise UserError("rsft: give session_gap, or session_events for a log without times; one of the two")
        return self
