"""The stage that trains the generator, and the generator's own lists."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onerec.data.stream import stream_windows, training_stream
from onerec.data.windows import Windows, every_position_windows, one_target_windows
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.recommenders.generator import GeneratorRecommender
from onerec.run.artefact import check_intact
from onerec.run.models import Model
from onerec.run.run import TRAINING_FILE, Facts, Run, Stage
from onerec.run.stages.semantic_ids import semantic_ids
from onerec.run.training import train_recommender, validation_settings
from onerec.train.runtime import set_threads
from onerec.train.trainer import TrainConfig

MODEL_FOLDER = "model"


class GeneratorStage(Stage):
    """Train the generator, and save it with its semantic IDs."""

    name = kind = "generator"
    needs = ("semantic_ids",)
    processes = "all"

    def recipe(self, run: Run) -> tuple[Any, ...]:
        config = run.config
        return (config.generator.model_dump(), config.train.model_dump(), config.seed, validation_settings(run))

    def make(self, run: Run, folder: Path) -> Facts:
        config = run.config
        set_threads(config.threads, config.generator.width, run.state.num_processes)
        torch.manual_seed(config.seed)
        vocabulary = run.reading.vocabulary if config.generator.pathways.names_features else None
        model = Generator(config.generator, semantic_ids(run), vocabulary)
        return train_generator(run, folder, model, "onerec", config.train, generator_windows(run))

    def models(self, run: Run) -> Iterable[Model]:
        yield generator_model(
            run,
            self.name,
            name="onerec",
            label="OneRec",
            description="encoder-decoder over semantic IDs, constrained beam search",
            lists_folder=Path("lists") / "onerec",
        )

    def notes(self, run: Run) -> Iterable[str]:
        if run.config.generator.pathways.in_use:
            yield (
                "The generator reads more than the baselines: its pathways are on (generator.pathways in the config). "
                "The baselines read the items of positive events."
            )


def train_generator(
    run: Run, folder: Path, model: Generator, label: str, config: TrainConfig, windows: Windows
) -> Facts:
    """Train a new or a trained generator, and save it below `folder`. Arguments and facts are those of `train_recommender`."""
    beam_width = run.config.evaluate.validation_beam_width
    trained, facts = train_recommender(
        run, folder, model, label, config, windows, lambda module: generator_recommender(run, module, beam_width)
    )
    assert isinstance(trained, Generator)
    if run.state.is_main_process:
        trained.save_pretrained(folder / MODEL_FOLDER)
    return facts


def generator_windows(run: Run) -> Windows:
    """The training windows for the generator's kind of context."""
    config = run.config.generator
    causal = config.context == "causal"
    if config.pathways.in_use:
        stream = training_stream(run.reading.stream, run.reading.order.trained_E)
        earlier = config.pathways.positive_length
        return stream_windows(stream, config.history_length, causal=causal, earlier_positives=earlier)
    make = every_position_windows if causal else one_target_windows
    return make(*run.training, config.history_length)


def generator_recommender(run: Run, model: nn.Module, beam_width: int) -> GeneratorRecommender:
    """A recommender with a generator."""
    assert isinstance(model, Generator)
    return GeneratorRecommender(model, beam_width, run.config.recommend.batch_size)


def load_generator(run: Run, stage: str = GeneratorStage.name, beam_width: int | None = None) -> GeneratorRecommender:
    """A recommender with the generator that a stage trained.

    Args:
        run: of the generator.
        stage: that trained it.
        beam_width: of its beam; None takes the config's.
    """
    generator = Generator.from_pretrained(run.intact(stage) / MODEL_FOLDER).to(run.state.device)
    return generator_recommender(run, generator, beam_width or run.config.recommend.beam_width)


def generator_model(
    run: Run, stage: str, *, name: str, label: str, description: str, lists_folder: Path, behind: tuple[str, ...] = ()
) -> Model:
    """A generator as a model of the run. Its lists are its beam, without selection.

    Args:
        run: of the generator.
        stage: that trained it last.
        name, label, description, lists_folder: see `Model`.
        behind: all stages whose training led to it, including `stage`; empty for `stage` alone.
    """
    trained = run.artefact(stage)

    def facts() -> dict[str, Any]:
        known = training_facts(trained.folder)
        return {**known, "train_seconds": seconds_of(run, behind)} if behind else known

    return Model(
        name=name,
        label=label,
        description=description,
        own=True,
        key=(trained.key, run.config.recommend.beam_width),
        load=lambda: load_generator(run, stage),
        facts=facts,
        lists_folder=lists_folder,
    )


def check_trained(run: Run) -> None:
    """Raise UserError if the generator is not trained with the data and config on file."""
    artefact = run.artefact(GeneratorStage.name)
    if not artefact.done:
        raise UserError(f"{artefact.folder}: no generator with the data and config on file; run `onerec train` first")


def training_facts(folder: Path) -> dict[str, Any]:
    """The facts that a stage wrote about its training."""
    check_intact(folder)
    facts: dict[str, Any] = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    return facts


def seconds_of(run: Run, stages: Iterable[str]) -> float:
    """Wall-clock seconds of stages together, each counted once."""
    return sum(run.artefact(name).seconds for name in dict.fromkeys(stages))
