"""The settings of rollouts, config sections `align.rollouts` and `align.prompts`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from onerec.run.config import Section


class RolloutConfig(Section):
    """How groups are generated.

    Attributes:
        method: "beam", the most probable items; "sample", independent samples of items, which may repeat;
            "without_replacement", different items by stochastic beam search (arXiv 1903.06059); "free", independent samples of
            codes, whether an item has them or not, which only a generator with `softmax: full` can give.
        group_size: generations per user, G.
        temperature, top_k, top_p: what is sampled from, see `rl.rollouts.draws.Truncation`; not for beams.
        exclude_seen: never generate an item of the user's history; not for free sampling.
        batch_size: users that are generated for together; memory grows with batch_size x group_size.
    """

    method: Literal["beam", "sample", "without_replacement", "free"] = "beam"
    group_size: int = Field(32, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_k: int | None = Field(None, gt=0)
    top_p: float | None = Field(None, gt=0, le=1)
    exclude_seen: bool = False
    batch_size: int = Field(64, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "beam" and (self.temperature, self.top_k, self.top_p) != (1.0, None, None):
            raise UserError("rollouts: temperature, top_k and top_p are for sampling; leave them out with method: beam")
        if self.method == "free" and self.exclude_seen:
            raise UserError(
                "rollouts.exclude_seen: free sampling draws codes, not items; leave it out with method: free"
            )
        return self


class PromptConfig(Section):
    """Which histories groups are generated for: positions of the training part.

    choice, per_user, at_most: see `rl.rollouts.prompts.training_prompts`. share: of these, how many an epoch takes, drawn anew
    each epoch.
    """

    choice: Literal["newest", "random"] = "newest"
    per_user: int = Field(1, gt=0)
    at_most: int | None = Field(None, gt=0)
    share: float = Field(1.0, gt=0, le=1)
