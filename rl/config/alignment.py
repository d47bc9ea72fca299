"""The settings of preference alignment, config section `align`. docs/alignment.md and `configs/demo.yaml` explain them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from onerec.scorers.preference_config import Half
from rl.config.rollouts import PromptConfig, RolloutConfig
from tokenizer.common.settings import Length, Settings

AlignObjective = Literal["ecpo", "gbpo", "grpo", "dpo", "ipa"]
PREFERENCE_OBJECTIVES = ("dpo", "ipa")


class RewardWeights(Settings):
    """The weight of each reward in the sum that advantages are computed from; see `rl.rewards`."""

    p_score: float = Field(1.0, ge=0)
    hit: float = Field(0.0, ge=0)
    rank: float = Field(0.0, ge=0)

    @property
    def used(self) -> dict[str, float]:
        """The weights above 0, by name."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}


class FormatConfig(Settings):
    """The reward for legal codes, which has a loss of its own: its advantages are 1, and no group mean is subtracted."""

    weight: float = Field(0.0, ge=0)
    chosen: int = Field(5, gt=0)
    by: Literal["random", "most_probable"] = "random"


class ScenarioConfig(Settings):
    """A class of items whose rewards are multiplied by `factor` while its share of the generations is above `most`."""

    column: str
    value: str
    factor: float = Field(0.5, ge=0, lt=1)
    most: float = Field(0.1, ge=0, le=1)


class DurationAwareConfig(Settings):
    """Choices that the paper of the duration-aware reward leaves open.

    Attributes:
        base: beta, the ratio between the borders of neighbouring buckets of duration.
        top_share: share of a batch that may earn +1.
        history: the plays that a play time is compared with: "before", the user's earlier plays in the bucket, or "all" of them,
            later ones and itself included, which suits a log that has ended.
        least: fewest plays to compare with; an exposure with fewer has no advantage. Against a single other play, every second
            exposure would be on top.
    """

    base: float = Field(4.0, gt=1)
    top_share: float = Field(0.25, gt=0, lt=1)
    history: Literal["before", "all"] = "before"
    least: int = Field(3, gt=0)


class ExposuresConfig(DurationAwareConfig):
    """Learning from logged exposures of the training part, rewarded by play time for their duration, with a loss of its own."""

    weight: float = Field(0.0, ge=0)
    batch_size: Length = 32
    dislike: str | None = None


class NextCodeConfig(Settings):
    """The next-code loss that is added to the objective's, on the generator's usual training windows."""

    weight: float = Field(7.0, ge=0)
    batch_size: Length = 32


class LimitsConfig(Settings):
    """When alignment stops: after `patience` steps in a row below one of the limits."""

    legality: float = Field(0.5, ge=0, le=1)
    entropy: float = Field(0.1, ge=0, le=1)
    patience: int = Field(10, gt=0)


class AlignConfig(Settings):
    """How a trained generator is aligned with rewards.

    The objectives are those of `rl.objectives`; "ipa" is DPO on beams, best against worst. `clip` and `excess` are epsilon and
    delta of ECPO's paper.
    """

    objective: AlignObjective = "ecpo"
    level: Literal["item", "code"] = "item"
    clip: float = Field(0.2, gt=0, lt=1)
    excess: float = Field(0.1, gt=0)
    scale_advantages: bool = True
    beta: float = Field(0.1, gt=0)
    negatives: Literal["hard", "softmax", "random"] = "hard"
    rewards: RewardWeights = RewardWeights()
    format: FormatConfig = FormatConfig()
    scenario: ScenarioConfig | None = None
    illegal: Literal["dropped", "worst"] = "dropped"
    judge_half: Half | None = "second"
    rollouts: RolloutConfig = RolloutConfig()
    prompts: PromptConfig = PromptConfig()
    batch_size: Length = 32
    steps: int = Field(300, gt=0)
    learning_rate: float = Field(0.0002, gt=0)
    final_learning_rate_share: float = Field(0.05, ge=0, le=1)
    warmup_steps: int = Field(20, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    exposures: ExposuresConfig = ExposuresConfig()
    next_code: NextCodeConfig = NextCodeConfig()
    refresh_every: int = Field(10, gt=0)
    limits: LimitsConfig = LimitsConfig()
    checkpoint_every: int = Field(50, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        method = self.rollouts.method
        if not self.rewards.used:
            self._check_without_rewards()
        if self.format.weight and method != "free":
            raise UserError(
                f"align.format: with rollouts.method: {method} every generation is legal; this reward needs method: free"
            )
        if self.objective not in PREFERENCE_OBJECTIVES:
            return self
        if method == "free":
            raise UserError(
                f"align.objective: {self.objective} compares items; rollouts.method: free is for the other objectives"
            )
        if self.objective == "ipa" and (method != "beam" or self.negatives != "hard"):
            raise UserError(
                "align.objective: ipa compares the best of a beam with the worst; "
                "set rollouts.method: beam and negatives: hard, or use dpo"
            )
        return self

    def _check_without_rewards(self) -> None:
        """Without rewards, alignment learns from logged exposures alone and generates no groups."""
        if not self.exposures.weight:
            raise UserError(
                "align.rewards: all weights are 0; "
                "give p_score, hit or rank one, or learn from exposures (align.exposures.weight)"
            )
        if self.objective != "gbpo":
            raise UserError(
                "align.rewards: all weights are 0, and only gbpo learns from exposures alone; set align.objective: gbpo"
            )
        if self.format.weight or self.scenario is not None:
            raise UserError(
                "align.format, align.scenario: they are about generations, and there are none without align.rewards"
            )
