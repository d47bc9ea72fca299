"""The settings of preference alignment, config section `align`; docs/alignment.md explains them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.errors import UserError
from onerec.run.config import Section
from onerec.scorers.preference_config import Half
from rl.rewards.duration_aware import DurationAwareConfig
from rl.rollouts.config import PromptConfig, RolloutConfig

AlignObjective = Literal["ecpo", "gbpo", "grpo", "dpo", "ipa"]
PREFERENCE_OBJECTIVES = ("dpo", "ipa")


class RewardWeights(Section):
    """What each reward counts in the sum whose advantages are learnt from; 0 leaves it out.

    p_score: the reward model's. hit: 1 for what the user took next. rank: MiniOneRec's penalties of misses, by rank.
    """

    p_score: float = Field(1.0, ge=0)
    hit: float = Field(0.0, ge=0)
    rank: float = Field(0.0, ge=0)

    @property
    def used(self) -> dict[str, float]:
        """The weights above 0, by name."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}


class FormatConfig(Section):
    """The reward for legal codes, with a loss of its own: advantages 1 that no group mean is taken from.

    weight: of that loss; 0 leaves it out. chosen: generations of a group that may earn it. by: how they are chosen.
    """

    weight: float = Field(0.0, ge=0)
    chosen: int = Field(5, gt=0)
    by: Literal["random", "most_probable"] = "random"


class ScenarioConfig(Section):
    """A class of items whose rewards are multiplied by `factor` while it makes up more than a share `most`.

    column, value: a categorical column of the items and what it says of those in the class.
    """

    column: str
    value: str
    factor: float = Field(0.5, ge=0, lt=1)
    most: float = Field(0.1, ge=0, le=1)


class ExposuresConfig(DurationAwareConfig):
    """Logged exposures of the training part, rewarded by how long they were watched for their length, with a loss of their own.

    weight: of that loss; 0 leaves it out. batch_size: exposures per optimizer step, of those with an advantage. dislike: the
    signal that says that a user did not want an exposure; None where the log has none.
    """

    weight: float = Field(0.0, ge=0)
    batch_size: int = Field(32, gt=0)
    dislike: str | None = None


class NextCodeConfig(Section):
    """The next-code loss that is trained along, on the generator's usual training windows.

    weight: beside the objective's loss; 0 leaves it out. batch_size: windows per optimizer step.
    """

    weight: float = Field(7.0, ge=0)
    batch_size: int = Field(32, gt=0)


class LimitsConfig(Section):
    """When alignment stops by itself: after `patience` steps in a row below one of the limits.

    legality: share of a step's generations that are an item's codes. entropy: of the policy's choices, as a share of what it was
    in the first step.
    """

    legality: float = Field(0.5, ge=0, le=1)
    entropy: float = Field(0.1, ge=0, le=1)
    patience: int = Field(10, gt=0)


class AlignConfig(Section):
    """How a trained generator is aligned with rewards.

    objective: see `rl.objectives`; "ipa" is DPO on beams, best against worst. level: whose ratios ECPO and GRPO bound. clip,
    excess: their epsilon and ECPO's delta. scale_advantages: divide by the group's standard deviation. beta, negatives: of DPO.
    illegal: generations that are no item are left out of a group's advantages, or are its worst. judge_half: whose reward model
    judges; that of the other half of the users rewards. None: the reward model of all users rewards, and none judges.
    refresh_every: optimizer steps between copies of the policy that generate; DPO and IPA refresh theirs every epoch of prompts.
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
    batch_size: int = Field(32, gt=0)
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
                f"align.format: with rollouts.method: {method} every generation is legal; its reward needs method: free"
            )
        if self.objective not in PREFERENCE_OBJECTIVES:
            return self
        if method == "free":
            raise UserError(
                f"align.objective: {self.objective} compares items; rollouts.method: free is for the other objectives"
            )
        if self.objective == "ipa" and (method != "beam" or self.negatives != "hard"):
            raise UserError(
                "align.objective: ipa is beams, best against worst; set rollouts.method: beam and negatives: hard, or take dpo"
            )
        return self

    def _check_without_rewards(self) -> None:
        """Logged exposures may be all that is learnt from; then no groups are generated."""
        if not self.exposures.weight:
            raise UserError(
                "align.rewards: all weights are 0; give p_score, hit or rank one, or learn from exposures: align.exposures.weight"
            )
        if self.objective != "gbpo":
            raise UserError(
                "align.rewards: all weights are 0, and exposures alone are learnt from with GBPO; set align.objective: gbpo"
            )
        if self.format.weight or self.scenario is not None:
            raise UserError(
                "align.format, align.scenario: they are about generations, of which there are none where all align.rewards are 0"
            )
