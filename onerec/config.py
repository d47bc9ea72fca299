"""The run config: one YAML file describes a whole run. Every key is typed, and unknown keys are refused.

`configs/demo.yaml` explains every key; the JSON Schema takes its descriptions from there (`onerec.config_schema`). On the command
line `train.epochs=10` overrides a key by its dotted path.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

import onerec
from onerec.align_config import AlignConfig
from onerec.baselines.sasrec import SASRecConfig
from onerec.data.contract import SplitMethod, parse_section
from onerec.errors import UserError
from onerec.model.generator_config import GeneratorConfig
from onerec.reward_config import RewardConfig
from onerec.rsft_config import RsftConfig
from onerec.train.trainer import TrainConfig
from tokenizer.alignment import AlignmentSpec
from tokenizer.content import BlockWeights
from tokenizer.models import OFFLINE_MODEL
from tokenizer.quantizers.spec import QuantizerSpec

LaterStage = Literal["rsft", "reward", "align"]


class Section(BaseModel):
    """A part of the run config; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetSection(Section):
    """Which dataset, which events count, and how they are split."""

    folder: Path
    fetch: Literal["movielens-100k"] | None = None
    positive: str | None = None
    split: SplitMethod | None = None
    train_share: float = Field(0.8, gt=0, lt=1)
    valid_share: float = Field(0.1, gt=0, lt=1)
    targets_per_user: Literal["first", "all"] = "first"


class ContentSection(Section):
    """How the item columns that dataset.yaml names become vectors: the settings of `tokenizer.content.ContentSpec`."""

    text_encoder: Literal["tfidf", "sentence"] = "tfidf"
    text_blocks: Literal["joint", "each"] = "joint"
    text_dimensions: int = Field(128, gt=0)
    sentence_model: str = OFFLINE_MODEL
    categorical_dimensions: int = Field(64, gt=0)
    vision_model: str | None = None
    vision_dimensions: int = Field(128, gt=0)
    frames_per_second: float = Field(1.0, gt=0)
    token_budget: int = Field(4096, gt=0)
    weights: BlockWeights = BlockWeights()


class CollaborativeSection(Section):
    """The vector that each item gets from co-occurrence in training histories; see `tokenizer.collaborative`."""

    weight: float = Field(1.0, ge=0)
    dimensions: int = Field(64, gt=0)
    window: int = Field(5, gt=0)


class TokenizerSection(Section):
    """From items to semantic IDs: content vectors, alignment, co-occurrence vectors, quantizer.

    The aligned vector takes the place of the content vector; without `alignment` the content vector stays as it is.
    """

    content: ContentSection = ContentSection()
    alignment: AlignmentSpec | None = AlignmentSpec()
    collaborative: CollaborativeSection = CollaborativeSection()
    quantizer: QuantizerSpec = QuantizerSpec()


class RecommendSection(Section):
    """How lists are made."""

    beam_width: int = Field(100, ge=50)
    exclude_seen: bool = True
    batch_size: int = Field(128, gt=0)


class EvaluateSection(Section):
    """How results are measured."""

    bootstrap_samples: int = Field(1000, ge=100)
    validation_users: int = Field(4000, gt=0)
    validation_beam_width: int = Field(20, ge=10)
    examples: int = Field(6, ge=0)


class SASRecSection(Section):
    """The SASRec baseline: its sizes and how it is trained."""

    model: SASRecConfig = SASRecConfig()
    train: TrainConfig = TrainConfig()


class ItemKNNSection(Section):
    """The settings of `onerec.baselines.item_knn.ItemKNN`."""

    window: int = Field(10, gt=0)
    decay: float = Field(0.6, gt=0, le=1)
    session_weight: float = Field(0.5, ge=0)
    source_exponent: float = 0.4
    target_exponent: float = 0.35
    session_events: int = Field(100, gt=0)


class SelectionSection(Section):
    """How a wide beam is re-ranked; see `onerec.select`.

    With `new_item_weight` 1, new items are listed about as often as users took them in validation.
    """

    beam_width: int = Field(300, ge=50)
    decay: float = Field(0.7, gt=0, le=1)
    fit_cases: int = Field(10000, gt=0)
    new_items: int = Field(50, ge=0)
    new_item_weight: float = Field(3.0, gt=0)
    co_occurrence: ItemKNNSection = ItemKNNSection()


class BaselinesSection(Section):
    """Which baselines run beside the generator; false or null leaves one out."""

    popularity: bool = True
    content_knn: bool = True
    item_knn: ItemKNNSection | None = ItemKNNSection()
    sasrec: SASRecSection | None = SASRecSection()


class RunConfig(Section):
    """Everything that a run depends on."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, gt=0)
    dataset: DatasetSection
    tokenizer: TokenizerSection = TokenizerSection()
    generator: GeneratorConfig = GeneratorConfig()
    train: TrainConfig = TrainConfig()
    recommend: RecommendSection = RecommendSection()
    selection: SelectionSection | None = SelectionSection()
    evaluate: EvaluateSection = EvaluateSection()
    baselines: BaselinesSection = BaselinesSection()
    reward: RewardConfig | None = RewardConfig()
    rsft: RsftConfig | None = None
    align: AlignConfig = AlignConfig()
    after_training: list[LaterStage] = []


def shipped_config(name: str) -> Path:
    """A config that comes with the project, by its file's name: inside an installed package, or beside it in a checkout."""
    package = Path(onerec.__file__).resolve().parent
    folder = package / "configs"
    return (folder if folder.is_dir() else package.parent / "configs") / name


def find_config(path: Path) -> Path:
    """The config at a path. A path that does not exist may name a shipped config: `own`, `own.yaml` or `configs/own.yaml`.

    Raises:
        UserError: there is no file, and no shipped config of that name.
    """
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(shipped_config("").glob("*.yaml"))}
    if str(path.parent) in (".", "configs") and path.suffix in ("", ".yaml") and path.stem in shipped:
        return shipped[path.stem]
    names = ", ".join(file.name for file in shipped.values())
    raise UserError(f"{path}: no such config; give the path of a file, or the name of a shipped config: {names}")


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config (see `find_config`) and apply overrides such as `train.epochs=10`.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown (the nearest right name is given) or a value is wrong.
    """
    path = find_config(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a run config is a mapping of keys; see configs/demo.yaml for an example")
    for override in overrides:
        _apply(content, override)
    return parse_section(RunConfig, content, str(path))


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f'override "{override}": write it as key.subkey=value, for example train.epochs=10')
    *sections, key = path.split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}  # a section that the file leaves out or sets to null starts from its defaults
        inner = content[section]
        if not isinstance(inner, dict):
            raise UserError(f'override "{override}": "{section}" is a value, it has no keys of its own')
        content = inner
    try:
        content[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f'override "{override}": the value is not YAML ({" ".join(str(error).split())})') from error
