"""The run config: one YAML file describes a whole run. Every key is typed, and unknown keys are refused.

`configs/demo.yaml` explains every key; the JSON Schema takes its descriptions from there (`onerec.run.schema`). On the command
line `train.epochs=10` overrides a key by its dotted path.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from onerec.data.contract import SplitMethod
from onerec.errors import UserError
from onerec.model.generator_config import GeneratorConfig
from onerec.recommenders.sasrec import SASRecSection
from onerec.scorers.co_occurrence import CoOccurrenceConfig
from onerec.scorers.selection import SelectionSection
from onerec.train.trainer import TrainConfig
from tokenizer.common.settings import Length, Seed, Settings
from tokenizer.item_encoder import TokenizerSection


class DatasetSection(Settings):
    """Which dataset, which events count, and how they are split."""

    folder: Path
    fetch: Literal["movielens-100k"] | None = None
    positive: str | None = None
    split: SplitMethod | None = None
    train_share: float = Field(0.8, gt=0, lt=1)
    valid_share: float = Field(0.1, gt=0, lt=1)
    targets_per_user: Literal["first", "all"] = "first"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.train_share + self.valid_share >= 1:
            raise UserError(
                f"dataset.train_share {self.train_share:g} and dataset.valid_share {self.valid_share:g} leave nothing to "
                "test on; their sum must be below 1"
            )
        return self


class RecommendSection(Settings):
    """How lists are made."""

    beam_width: int = Field(100, ge=50, le=100_000)
    exclude_seen: bool = True
    batch_size: Length = 128


class EvaluateSection(Settings):
    """How results are measured."""

    bootstrap_samples: int = Field(1000, ge=100, le=1_000_000)
    validation_users: int = Field(4000, gt=0)
    validation_beam_width: int = Field(20, ge=10, le=100_000)
    examples: int = Field(6, ge=0)


class BaselinesSection(Settings):
    """Which baselines run beside the generator; false or null leaves one out."""

    popularity: bool = True
    content_knn: bool = True
    item_knn: CoOccurrenceConfig | None = CoOccurrenceConfig()
    sasrec: SASRecSection | None = SASRecSection()


class RunConfig(Settings):
    """Everything that a run depends on. Plugins subclass this with sections of their own (`onerec.run.plugins`)."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=128)
    seed: Seed = 0
    threads: int | None = Field(None, gt=0, le=1024)
    dataset: DatasetSection
    tokenizer: TokenizerSection = TokenizerSection()
    generator: GeneratorConfig = GeneratorConfig()
    train: TrainConfig = TrainConfig()
    recommend: RecommendSection = RecommendSection()
    selection: SelectionSection | None = SelectionSection()
    evaluate: EvaluateSection = EvaluateSection()
    baselines: BaselinesSection = BaselinesSection()
