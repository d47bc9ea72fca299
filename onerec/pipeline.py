"""The stages of a run in their order, and which artefact feeds which.

    dataset -> semantic IDs -> generator, selection, baselines -> lists for validation and test -> results.json, report.html

Each stage leaves a folder under `runs/<name>/` and is skipped when that folder was made from the same config and inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onerec.artefacts import Stage, key_of
from onerec.baselines.content_knn import ContentKNN
from onerec.baselines.item_knn import ItemKNN
from onerec.baselines.popularity import Popularity
from onerec.baselines.sasrec import SASRec, SASRecRecommender
from onerec.config import RunConfig, load_config
from onerec.data.features import FeatureVocabulary
from onerec.data.lifelong import LifelongSource
from onerec.data.split import (
    Cases,
    held_out_pairs,
)
from onerec.data.stream import (
    EventOrder,
    Readings,
    Stream,
    case_readings,
    fit_vocabulary,
    make_stream,
    order_events,
    stream_windows,
    training_stream,
)
from onerec.data.windows import Windows, every_position_windows, one_target_windows
from onerec.decode.recommend import GeneratorRecommender
from onerec.errors import UserError
from onerec.evaluate.ranking import Recommender, quick_figures
from onerec.files import write_json
from onerec.further import MakeLists, kept_lists
from onerec.model.generator import FEATURES_FOLDER, Generator
from onerec.run_data import RunData
from onerec.select.recommend import SelectingRecommender
from onerec.selection_stage import fit_selection, load_selection
from onerec.train.runtime import lone_process_note, set_threads
from onerec.train.trainer import TrainConfig, Trainer
from tokenizer.item_encoder import ItemEncoder
from tokenizer.quality.figures import format_quality
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import coded_vectors, tokenize_items

CONFIG_FILE = "config.json"


class Run(RunData):
    """One run: its stages as methods that may be called in any order, each done once; arguments as in `RunData`."""

    # -- what a generator with pathways reads -------------------------------------------------------------------------

    @cached_property
    def event_order(self) -> EventOrder:
        """Which events the generator's histories hold."""
        return order_events(self.dataset, self.sequences, self.config.generator.pathways.stream)

    @cached_property
    def vocabulary(self) -> FeatureVocabulary:
        """The features that the generator reads: those it was trained with, or else what training events show."""
        folder = self.generator_stage.folder / "model" / FEATURES_FOLDER
        if self.generator_stage.done and folder.exists():
            return FeatureVocabulary.load(folder)
        return fit_vocabulary(self.dataset, self.config.generator.pathways, self.event_order)

    @cached_property
    def stream(self) -> Stream:
        """Everything that a generator with pathways reads."""
        return make_stream(self.dataset, self.sequences, self.event_order, self.vocabulary, self._lifelong_source())

    def _lifelong_source(self) -> LifelongSource | None:
        """What all older events are clustered by: the codes of the semantic IDs, which every saved generator has."""
        config = self.config.generator.pathways.lifelong
        if config is None:
            return None
        numeric = np.array([column.values is None for column in self.vocabulary.event], dtype=bool)
        # Not by `tokenize`, which processes must call together: the IDs are there before anything is read.
        ids = SemanticIds.load(self.ids_stage.folder / "ids")
        return LifelongSource(config, coded_vectors(ids), numeric)

    def readings(self, cases: Cases) -> Readings | None:
        """What the generator reads of evaluation cases; None where it reads their items and nothing else."""
        if not self.config.generator.pathways.in_use:
            return None
        return case_readings(self.stream, self.event_order, cases)

    def reading_of_user(self, row: int) -> Readings | None:
        """What the generator reads of user number `row` of the sequences: all events. None as for `readings`."""
        if not self.config.generator.pathways.in_use:
            return None
        return Readings(self.stream, np.array([row]), self.stream.offsets[row + 1 : row + 2])

    # -- semantic IDs -------------------------------------------------------------------------------------------------

    @property
    def ids_stage(self) -> Stage:
        recipe = (self.config.tokenizer.model_dump(), self.config.seed)
        return Stage(self.folder / "semantic_ids", key_of("ids", self.data_key, *recipe), recipe=key_of("ids", *recipe))

    def tokenize(self) -> SemanticIds:
        """Item content and training co-occurrence -> vectors -> quantizer -> one unique ID per item."""
        stage = self.ids_stage
        with self.state.main_process_first():
            if not stage.done:
                stage.begin()
                self.say("semantic IDs: reading item content")
                encoder = ItemEncoder().fit(
                    self.dataset.item_table, self.training, self.config.tokenizer, self.config.seed
                )
                encoder.save(stage.folder / "encoder")
                ids = tokenize_items(
                    encoder.vectors_ND,
                    self.item_ids,
                    self.config.tokenizer.quantizer,
                    behaviour_ND=encoder.behaviour_ND,
                    neighbours_P2=held_out_pairs(self.sequences),
                    source=encoder.source,
                )
                ids.save(stage.folder / "ids")
                stage.finish()
                self.say(format_quality(ids.quality))
        return SemanticIds.load(stage.folder / "ids")

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def generator_stage(self) -> Stage:
        config = self.config
        parts = (config.generator.model_dump(), config.train.model_dump(), config.seed, self._validation_settings)
        return Stage(self.folder / "generator", key_of("generator", self.ids_stage.key, *parts))

    @property
    def selection_stage(self) -> Stage:
        section = self.config.selection
        inputs = (section.model_dump() if section else None, self.config.recommend.exclude_seen)
        return Stage(self.folder / "selection", key_of("selection", self.generator_stage.key, *inputs))

    @property
    def sasrec_stage(self) -> Stage:
        section = self.config.baselines.sasrec
        parts = (section.model_dump() if section else None, self.config.seed, self._validation_settings)
        return Stage(self.folder / "baselines" / "sasrec", key_of("sasrec", self.data_key, *parts))

    @property
    def _validation_settings(self) -> dict[str, Any]:
        config = self.trained_with or self.config
        evaluate = config.evaluate.model_dump(include={"validation_users", "validation_beam_width"})
        return {**evaluate, "exclude_seen": config.recommend.exclude_seen}

    def train_generator(self) -> None:
        """Train the generator, or go on where a killed run stopped, and save it with its semantic IDs."""
        stage = self.generator_stage
        if stage.done:
            return
        ids = self.tokenize()
        set_threads(self.config.threads, self.config.generator.width, self.state.num_processes)
        torch.manual_seed(self.config.seed)
        vocabulary = self.vocabulary if self.config.generator.pathways.names_features else None
        model = Generator(self.config.generator, ids, vocabulary)
        self._train(stage, model, "onerec", self.config.train, self.generator_windows(), self._generator_recommender)

    def train_on(
        self, stage: Stage, generator: Generator, config: TrainConfig, windows: Windows, facts: Mapping[str, Any]
    ) -> None:
        """Train a trained generator on, in a stage of its own; validated, stopped and saved as in its first training.

        Args:
            stage: gets the model, its curves, and a `training.json` that holds `facts` too.
            generator: on any device; it ends with the best weights.
            config: of this training.
            windows: of which kind the generator reads.
            facts: plain values by name.
        """
        self._train(stage, generator, stage.folder.name, config, windows, self._generator_recommender, facts)

    def generator_windows(self) -> Windows:
        """Training windows as the generator's context wants them."""
        config = self.config.generator
        causal = config.context == "causal"
        if config.pathways.in_use:
            stream, older = training_stream(self.stream, self.event_order.trained_E), config.pathways.positive_length
            return stream_windows(stream, config.history_length, causal=causal, older=older)
        make = every_position_windows if causal else one_target_windows
        return make(*self.training, config.history_length)

    def _generator_recommender(self, model: nn.Module, beam_width: int) -> GeneratorRecommender:
        assert isinstance(model, Generator)
        return GeneratorRecommender(model, beam_width, self.config.recommend.batch_size)

    def recommend(self, recommender: Recommender, cases: Cases, k: int) -> tuple[np.ndarray, np.ndarray]:
        """A recommender's lists for evaluation cases; baselines read positive items, whatever the generator reads."""
        asked = (cases.history_items, cases.history_offsets, k, self.config.recommend.exclude_seen)
        if isinstance(recommender, GeneratorRecommender | SelectingRecommender):
            return recommender.recommend(*asked, self.readings(cases))
        return recommender.recommend(*asked)

    def train_sasrec(self) -> None:
        """Train the SASRec baseline with the same windows, trainer and early stopping."""
        stage, section = self.sasrec_stage, self.config.baselines.sasrec
        if stage.done or section is None:
            return
        set_threads(self.config.threads, section.model.width, self.state.num_processes)
        torch.manual_seed(self.config.seed)
        model = SASRec(section.model, len(self.item_ids))
        windows = every_position_windows(*self.training, section.model.history_length)
        self._train(stage, model, "sasrec", section.train, windows, self._sasrec_recommender)

    def _sasrec_recommender(self, model: nn.Module, beam_width: int) -> Recommender:
        assert isinstance(model, SASRec)
        return SASRecRecommender(model, self.config.recommend.batch_size)

    def _train(
        self,
        stage: Stage,
        model: nn.Module,
        label: str,
        config: TrainConfig,
        windows: Windows,
        recommender: Callable[[nn.Module, int], Recommender],
        more_facts: Mapping[str, Any] | None = None,
    ) -> None:
        with self.state.main_process_first():
            if self.state.is_main_process:
                stage.begin()
        sample = self.cases("valid", self.config.evaluate.validation_users)
        beam_width = self.config.evaluate.validation_beam_width

        def validate(trained: nn.Module) -> dict[str, float]:
            return quick_figures(self.recommend(recommender(trained, beam_width), sample, 10)[0], sample)

        seed, project = self.config.seed, self.wandb_project
        trainer = Trainer(model, windows, config, stage.folder, validate, seed=seed, label=label, wandb_project=project)
        position = trainer.run()
        if not self.state.is_main_process:
            return
        facts = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_seconds": position.seconds,
            "steps": position.step,
            "best_step": position.best_step,
            "best_epoch": position.best_step / trainer.steps_per_epoch,
            **(more_facts or {}),
        }
        trained = trainer.bare_model.cpu().eval()
        if isinstance(trained, Generator):
            trained.save_pretrained(stage.folder / "model")
        write_json(stage.folder / "training.json", facts)
        (stage.folder / "checkpoint.pt").unlink(missing_ok=True)
        stage.finish(position.seconds)

    # -- lists --------------------------------------------------------------------------------------------------------

    def recommenders(self) -> dict[str, Callable[[], Recommender]]:
        """Every model of the run by name; each is loaded or fitted only when called."""
        baselines = self.config.baselines
        made: dict[str, Callable[[], Recommender]] = {"onerec": self.load_generator}
        if self.config.selection is not None:
            made["onerec_selection"] = lambda: load_selection(self)
        if baselines.sasrec is not None:
            made["sasrec"] = self.load_sasrec
        if baselines.item_knn is not None:
            made["item_knn"] = self.fit_item_knn
        if baselines.content_knn:
            made["content_knn"] = self.load_content_knn
        if baselines.popularity:
            made["popularity"] = self.fit_popularity
        return made

    def load_generator(self, folder: str = "generator") -> GeneratorRecommender:
        """The trained generator, or the one of another folder of the run (`aligned_ecpo`), ready to recommend."""
        device = self.state.device
        generator = Generator.from_pretrained(self.folder / folder / "model").to(device)
        return self._generator_recommender(generator, self.config.recommend.beam_width)

    def load_sasrec(self) -> Recommender:
        """The trained SASRec, ready to recommend."""
        from safetensors.torch import load_file

        section = self.config.baselines.sasrec
        assert section is not None
        if not self.sasrec_stage.done:
            raise UserError(f"{self.sasrec_stage.folder}: SASRec is not trained to the end; run it again")
        model = SASRec(section.model, len(self.item_ids))
        model.load_state_dict(load_file(self.sasrec_stage.folder / "best.safetensors"))
        return SASRecRecommender(model.to(self.state.device), self.config.recommend.batch_size)

    def fit_item_knn(self) -> Recommender:
        """Item-kNN counted on the training part."""
        section = self.config.baselines.item_knn
        assert section is not None
        knn = ItemKNN(**section.model_dump(), seed=self.config.seed)
        return knn.fit(*self.training, len(self.item_ids))

    def load_content_knn(self) -> Recommender:
        """Semantic kNN over the vectors that the semantic IDs were made from."""
        return ContentKNN(ItemEncoder.load(self.ids_stage.folder / "encoder").vectors_ND, 1.0, seed=self.config.seed)

    def fit_popularity(self) -> Recommender:
        """Popularity counted on the training part."""
        return Popularity(self.config.seed).fit(*self.training, len(self.item_ids))

    def lists(self, model: str) -> dict[str, np.ndarray]:
        """A model's top lists for validation and test cases, made once and kept in the run folder; see `kept_lists`."""

        def load() -> MakeLists:
            return partial(self.recommend, self.recommenders()[model]())

        return kept_lists(self, self._lists_stage(model), model, load)

    def _lists_stage(self, model: str) -> Stage:
        baselines, recommend = self.config.baselines, self.config.recommend
        inputs: dict[str, Any] = {
            "onerec": (self.generator_stage.key, recommend.beam_width),
            "onerec_selection": self.selection_stage.key,
            "sasrec": self.sasrec_stage.key,
            "item_knn": (self.data_key, baselines.item_knn.model_dump() if baselines.item_knn else None),
            "content_knn": self.ids_stage.key,
            "popularity": self.data_key,
        }
        return Stage(
            self.folder / "lists" / model, key_of("lists", inputs[model], recommend.exclude_seen, self.config.seed)
        )

    # -- everything ---------------------------------------------------------------------------------------------------

    def total_seconds(self) -> float:
        """Wall-clock seconds of all stages together, also of those that an earlier command did."""
        stages = [self.ids_stage, self.generator_stage, self.selection_stage, self.sasrec_stage]
        return sum(stage.seconds for stage in [*stages, *map(self._lists_stage, self.recommenders())])

    def train(self) -> None:
        """Semantic IDs, the generator, selection from its beam, and the trained baseline."""
        self.tokenize()
        self.train_generator()
        if self.state.is_main_process:
            fit_selection(self)
        self.train_sasrec()


def open_run(config: RunConfig, folder: Path, wandb_project: str | None = None) -> Run:
    """A run in its folder, which remembers the config for `onerec evaluate` and `onerec recommend`."""
    run = Run(config, folder, wandb_project)
    if note := lone_process_note():
        run.say(note)
    if run.state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        stored = config.model_dump(mode="json")
        stored["dataset"]["folder"] = str(config.dataset.folder.resolve())  # later commands may run from elsewhere
        write_json(folder / CONFIG_FILE, stored)
    return run


def reopen_run(folder: Path, overrides: Sequence[str]) -> Run:
    """A run that was trained before, with some keys changed.

    Raises:
        UserError: the folder holds no run, or its generator is not trained (to the end) with the config on file.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{folder}: not a run folder (no {CONFIG_FILE}); `onerec run CONFIG` makes one")
    stored = load_config(folder / CONFIG_FILE)
    run = Run(load_config(folder / CONFIG_FILE, overrides), folder, trained_with=stored)
    if not run.generator_stage.done:
        raise UserError(
            f"{folder}: its generator is not trained to the end with the data and config on file; run it again"
        )
    return run
