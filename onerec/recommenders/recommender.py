"""What every recommender does, and what one that is compared with the generator declares beside its code.

A recommender becomes part of every run by a line in `onerec.recommenders.registry`. It is either fitted in seconds
(`FittedRecommender`) or trained by the one trainer (`TrainedRecommender`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from torch import nn

from onerec.data.candidates import Lists
from onerec.data.requests import Requests
from onerec.data.windows import Windows


class Recommender(Protocol):
    """Anything that answers requests with ranked items of the whole catalogue."""

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """Lists of k items, best first.

        Args:
            requests: whose histories are read; no history may be empty.
            k: items per list.
            exclude_seen: leave out every item of the history, however long ago.

        Raises:
            ValueError: k below 1.
        """
        ...


@dataclass(frozen=True)
class TrainingData:
    """All that a recommender may learn from.

    Attributes:
        item_index: int32, items of all training sequences, back to back, oldest first.
        offsets: int64 `[U + 1]`, where each user's sequence begins.
        item_count: N, items of the catalogue.
        vectors_ND: gives the item vectors that the semantic IDs were made from.
        seed: of the run.
    """

    item_index: np.ndarray
    offsets: np.ndarray
    item_count: int
    vectors_ND: Callable[[], np.ndarray]
    seed: int


class Baseline(Recommender, Protocol):
    """A recommender that every run compares with its generator.

    Attributes:
        name: in config, results and folders.
        label, description: for readers.
        reads_vectors: whether it uses `TrainingData.vectors_ND`; its lists are then made again when the vectors change.
    """

    name: str
    label: str
    description: str
    reads_vectors: bool


class FittedRecommender(Baseline, Protocol):
    """A recommender without training: it is fitted again whenever lists are made, and nothing is stored.

    `section` is the value of `baselines.<name>` in the config.
    """

    @classmethod
    def fit(cls, section: Any, data: TrainingData) -> Self:
        """The recommender, ready to recommend."""
        ...


class TrainedRecommender(Baseline, Protocol):
    """A recommender around a network. Its config section has a key `train` with a `TrainConfig`."""

    def __init__(self, model: nn.Module, batch_size: int) -> None: ...

    @staticmethod
    def width(section: Any) -> int:
        """The network's width, by which the number of threads is chosen."""
        ...

    @staticmethod
    def build(section: Any, data: TrainingData) -> nn.Module:
        """A network to train; its forward pass maps a `Batch` to summed losses."""
        ...

    @staticmethod
    def windows(section: Any, data: TrainingData) -> Windows:
        """The windows it trains on."""
        ...
