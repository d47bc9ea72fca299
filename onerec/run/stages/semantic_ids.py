"""The stage that gives every item a semantic ID."""

from pathlib import Path
from typing import Any

from onerec.data.split import held_out_pairs
from onerec.run.artefact import Artefact, key_of
from onerec.run.run import Facts, Run, Stage
from tokenizer.item_encoder import ItemEncoder
from tokenizer.quality.figures import format_quality
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import tokenize_items

ENCODER_FOLDER, IDS_FOLDER = "encoder", "ids"


class SemanticIdsStage(Stage):
    """Make vectors from item content and training co-occurrence, quantize them, and give every item a unique ID."""

    name = "semantic_ids"
    kind = "ids"
    after = ("sequences",)
    processes = "first"

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (run.data_key, *self._settings(run))

    def _settings(self, run: Run) -> tuple[Any, ...]:
        return (run.config.tokenizer.model_dump(), run.config.seed)

    def artefact(self, run: Run) -> Artefact:
        # The recipe alone is on file as well: IDs can grow with the dataset (`onerec tokenize --append`).
        recipe = key_of(self.kind, *self._settings(run))
        return Artefact(run.folder / self.name, run.key(self.name), recipe=recipe)

    def make(self, run: Run, folder: Path) -> Facts:
        run.say("semantic IDs: reading item content")
        encoder = ItemEncoder().fit(run.dataset.item_table, run.training, run.config.tokenizer, run.config.seed)
        encoder.save(folder / ENCODER_FOLDER)
        ids = tokenize_items(
            encoder.vectors_ND,
            run.item_ids,
            run.config.tokenizer.quantizer,
            behaviour_ND=encoder.behaviour_ND,
            neighbours_P2=held_out_pairs(run.sequences),
            source=encoder.source,
        )
        ids.save(folder / IDS_FOLDER)
        run.say(format_quality(ids.quality))
        return {}


def item_encoder(run: Run) -> ItemEncoder:
    """The encoder that the semantic IDs were made with."""
    return ItemEncoder.load(run.intact(SemanticIdsStage.name) / ENCODER_FOLDER)


def semantic_ids(run: Run) -> SemanticIds:
    """The run's semantic IDs; they must be made."""
    return SemanticIds.load(run.intact(SemanticIdsStage.name) / IDS_FOLDER)
