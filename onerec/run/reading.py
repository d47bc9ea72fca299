"""What a generator reads of a dataset beside the items of positive events: the stream, its features and their vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from onerec.data.contract import Dataset
from onerec.data.features import FeatureVocabulary, PathwaysConfig
from onerec.data.lifelong import LifelongSource
from onerec.data.requests import Requests
from onerec.data.split import Sequences
from onerec.data.stream import EventOrder, Stream, fit_vocabulary, make_stream, order_events
from onerec.model.generator import FEATURES_FOLDER
from onerec.run.artefact import Artefact
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import coded_vectors


@dataclass
class Reading:
    """The events and features that a generator with pathways reads.

    Attributes:
        dataset, sequences: of the run.
        pathways: which events and features.
        generator: gives the artefact of the generator, whose saved vocabulary is used once it is trained.
        ids_folder: where the semantic IDs lie, by whose codes old events are clustered.
    """

    dataset: Dataset
    sequences: Sequences
    pathways: PathwaysConfig
    generator: Callable[[], Artefact]
    ids_folder: Path

    @cached_property
    def order(self) -> EventOrder:
        """Which events the generator's histories hold."""
        return order_events(self.dataset, self.sequences, self.pathways.stream)

    @cached_property
    def order_of_all(self) -> EventOrder:
        """All events of the users, whichever of them the generator reads."""
        return self.order if self.pathways.stream == "all" else order_events(self.dataset, self.sequences, "all")

    @cached_property
    def vocabulary(self) -> FeatureVocabulary:
        """The features that the generator reads: those it was trained with, or else what training events show."""
        trained = self.generator()
        folder = trained.folder / "model" / FEATURES_FOLDER
        if trained.done and folder.exists():
            return FeatureVocabulary.load(folder)
        return fit_vocabulary(self.dataset, self.pathways, self.order)

    @cached_property
    def stream(self) -> Stream:
        """Everything that a generator with pathways reads."""
        return make_stream(self.dataset, self.sequences, self.order, self.vocabulary, self._lifelong_source())

    def _lifelong_source(self) -> LifelongSource | None:
        """What old events are clustered by: the codes of the semantic IDs, which every saved generator has."""
        if self.pathways.lifelong is None:
            return None
        numeric = np.array([column.values is None for column in self.vocabulary.event], dtype=bool)
        # Read, not made: making is for all processes together, and the IDs are there before anything is read.
        return LifelongSource(self.pathways.lifelong, coded_vectors(SemanticIds.load(self.ids_folder)), numeric)

    def of(self, requests: Requests) -> Requests:
        """Requests with what the generator reads before each target; as they are where it reads items and nothing else."""
        return requests.reading(self.stream, self.order) if self.pathways.in_use else requests

    def up_to_now(self, requests: Requests) -> Requests:
        """Requests of known users with all their events; as they are where the generator reads items and nothing else."""
        if not self.pathways.in_use:
            return requests
        return replace(requests, stream=self.stream, stream_ends_C=self.stream.offsets[requests.users_C + 1])
