"""What a generator reads besides the items of positive events: the stream of events, their features and the vocabulary."""

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
        pathways: say which events and features.
        generator: gives the artefact of the generator. Once it is trained, its saved vocabulary is used.
        ids_folder: the folder of the semantic IDs. Old events are clustered by their codes.
    """

    dataset: Dataset
    sequences: Sequences
    pathways: PathwaysConfig
    generator: Callable[[], Artefact]
    ids_folder: Path

    @cached_property
    def order(self) -> EventOrder:
        """The events in the generator's histories."""
        return order_events(self.dataset, self.sequences, self.pathways.stream)

    @cached_property
    def order_of_all(self) -> EventOrder:
        """All events of the users, including those that the generator does not read."""
        return self.order if self.pathways.stream == "all" else order_events(self.dataset, self.sequences, "all")

    @cached_property
    def vocabulary(self) -> FeatureVocabulary:
        """The features that the generator reads: those it was trained with or, before training, those of training events."""
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
        """The vectors by which old events are clustered: made from the codes of the semantic IDs."""
        if self.pathways.lifelong is None:
            return None
        numeric = np.array([column.values is None for column in self.vocabulary.event], dtype=bool)
        # Loaded, not made: all processes make a stage together, and the IDs are there before any event is read.
        return LifelongSource(self.pathways.lifelong, coded_vectors(SemanticIds.load(self.ids_folder)), numeric)

    def of(self, requests: Requests) -> Requests:
        """Requests with all that the generator reads before each target; unchanged if it reads only items."""
        return requests.reading(self.stream, self.order) if self.pathways.in_use else requests

    def up_to_now(self, requests: Requests) -> Requests:
        """Requests of users of the dataset with all their events; unchanged if the generator reads only items."""
        if not self.pathways.in_use:
            return requests
        return replace(requests, stream=self.stream, stream_ends_C=self.stream.offsets[requests.users_C + 1])
