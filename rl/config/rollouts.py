"""The settings of rollouts, config sections `align.rollouts` and `align.prompts`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from tokenizer.common.settings import Length, Settings


class RolloutConfig(Settings):
    """How groups of candidates are generated.

    "without_replacement" is stochastic beam search (arXiv 1903.06059). "free" needs a generator with `softmax: full`.
    `temperature`, `top_k` and `top_p` are those of `rl.rollouts.draws.Truncation`. Memory grows with batch_size x group_size.
    """

    method: Literal["beam", "sample", "without_replacement", "free"] = "beam"
    group_size: Length = 32
    temperature: float = Field(1.0, ge=0.01, le=100)
    top_k: int | None = Field(None, gt=0)
    top_p: float | None = Field(None, gt=0, le=1)
    exclude_seen: bool = False
    batch_size: Length = 64

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "beam" and (self.temperature, self.top_k, self.top_p) != (1.0, None, None):
            raise UserError(
                "rollouts: temperature, top_k and top_p apply to sampling only; leave them out with method: beam"
            )
        if self.method == "free" and self.exclude_seen:
            raise UserError(
                "rollouts.exclude_seen: free sampling draws codes and not items; leave it out with method: free"
            )
        return self


class PromptConfig(Settings):
    """Which positions of the training part groups are generated for; see `rl.rollouts.prompts.training_prompts`."""

    choice: Literal["newest", "random"] = "newest"
    per_user: int = Field(1, gt=0)
    at_most: int | None = Field(None, gt=0)
    share: float = Field(1.0, gt=0, le=1)
