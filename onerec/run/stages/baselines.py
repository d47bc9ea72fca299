"""The stages of the baselines: every recommender of `onerec.recommenders.registry` that the config asks for."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from onerec.errors import UserError
from onerec.recommenders.recommender import FittedRecommender, Recommender, TrainedRecommender, TrainingData
from onerec.recommenders.registry import fitted_recommenders, trained_recommenders
from onerec.run.config import RunConfig
from onerec.run.models import Model
from onerec.run.run import Facts, Run, Stage
from onerec.run.stages.generator import training_facts
from onerec.run.stages.semantic_ids import SemanticIdsStage, item_encoder
from onerec.run.training import train_recommender, validation_settings
from onerec.train.runtime import set_threads


def baseline_stages() -> list[Stage]:
    """A stage for every registered recommender, in the order of tables."""
    return [*map(TrainedBaseline, trained_recommenders()), *map(FittedBaseline, fitted_recommenders())]


def section_of(config: RunConfig, name: str) -> Any:
    """The value of `baselines.<name>` in the config; None or False leaves the baseline out."""
    return getattr(config.baselines, name)


def training_data(run: Run) -> TrainingData:
    """The data that a baseline may learn from."""
    items, offsets = run.training
    return TrainingData(items, offsets, len(run.item_ids), lambda: item_encoder(run).vectors_ND, run.config.seed)


def needs_of(recommender: type[FittedRecommender] | type[TrainedRecommender]) -> tuple[str, ...]:
    """The stages that a recommender needs besides the data. Item vectors are made with the semantic IDs."""
    return (SemanticIdsStage.name,) if recommender.reads_vectors else ()


class TrainedBaseline(Stage):
    """Train a recommender with the same trainer, validation and early stopping as the generator."""

    processes = "all"

    def __init__(self, recommender: type[TrainedRecommender]) -> None:
        self.recommender, self.needs = recommender, needs_of(recommender)
        self.name, self.kind = f"baselines/{recommender.name}", recommender.name

    def asked(self, run: Run) -> bool:
        return bool(section_of(run.config, self.kind))

    def recipe(self, run: Run) -> tuple[Any, ...]:
        section = section_of(run.config, self.kind)
        return (run.data_key, section.model_dump() if section else None, run.config.seed, validation_settings(run))

    def make(self, run: Run, folder: Path) -> Facts:
        config, section, data = run.config, section_of(run.config, self.kind), training_data(run)
        set_threads(config.threads, self.recommender.width(section), run.state.num_processes)
        torch.manual_seed(config.seed)
        model, windows = self.recommender.build(section, data), self.recommender.windows(section, data)
        _, facts = train_recommender(
            run,
            folder,
            model,
            self.kind,
            section.train,
            windows,
            lambda module: self.recommender(module, config.recommend.batch_size),
        )
        return facts

    def load(self, run: Run) -> Recommender:
        """The trained recommender. Raises UserError if it is not trained to the end."""
        artefact = run.artefact(self.name)
        if not artefact.done:
            raise UserError(f"{artefact.folder}: {self.recommender.label} is not trained to the end; run it again")
        model = self.recommender.build(section_of(run.config, self.kind), training_data(run))
        model.load_state_dict(load_file(artefact.folder / "best.safetensors"))
        return self.recommender(model.to(run.state.device), run.config.recommend.batch_size)

    def models(self, run: Run) -> Iterable[Model]:
        artefact = run.artefact(self.name)
        yield Model(
            name=self.kind,
            label=self.recommender.label,
            description=self.recommender.description,
            own=False,
            key=artefact.key,
            load=lambda: self.load(run),
            facts=lambda: training_facts(artefact.folder),
            lists_folder=Path("lists") / self.kind,
        )


class FittedBaseline(Stage):
    """A recommender that is fitted in seconds whenever lists are made. Only its lists are kept."""

    stored = False

    def __init__(self, recommender: type[FittedRecommender]) -> None:
        self.recommender, self.needs = recommender, needs_of(recommender)
        self.name = self.kind = recommender.name

    def asked(self, run: Run) -> bool:
        return bool(section_of(run.config, self.kind))

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (run.data_key, run.config.baselines.model_dump()[self.kind])

    def models(self, run: Run) -> Iterable[Model]:
        yield Model(
            name=self.kind,
            label=self.recommender.label,
            description=self.recommender.description,
            own=False,
            key=run.key(self.name),
            load=lambda: self.recommender.fit(section_of(run.config, self.kind), training_data(run)),
            facts=dict,
            lists_folder=Path("lists") / self.kind,
        )
