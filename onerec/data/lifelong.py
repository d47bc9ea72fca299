"""What a user did long ago, in few rows: all events from before a window, at most 100,000, as at most 2,000 representatives.

OneRec Technical Report (arXiv 2506.13695), lifelong pathway. The events of items whose vectors are alike become one cluster. The
item nearest to the cluster's centre stands for it: item and categories are those of its newest event, numbers are averaged over
the events of the cluster.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from onerec.data.windows import Lifelong
from onerec.errors import UserError
from tokenizer.clustering.hierarchical_kmeans import hierarchical_kmeans

STEP_SHARE = 4  # a user is clustered again whenever so many more events have passed: representatives / STEP_SHARE
SEED = 0
CACHE_BYTES = 256 << 20  # of clusterings kept; a log with more is clustered again and again


class LifelongConfig(BaseModel):
    """How much of the past is read and how it is compressed.

    events: most events from before the window. representatives: rows they become, at most. tokens: what query tokens make of
    these. layers: blocks of cross-attention and feed-forward network in which they do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: int = Field(100_000, gt=0)
    representatives: int = Field(2000, gt=0)
    tokens: int = Field(128, gt=0)
    layers: int = Field(2, gt=0)


@dataclass(frozen=True)
class LifelongSource:
    """What clustering needs to know beside the events.

    Attributes:
        config: how much is read.
        vectors_NW: float32, a vector per item; items with like vectors share clusters.
        numeric_F: boolean, which event features are buckets of a number.
    """

    config: LifelongConfig
    vectors_NW: np.ndarray
    numeric_F: np.ndarray

    def __post_init__(self) -> None:
        if len(self.vectors_NW) > 1 and not np.ptp(self.vectors_NW, axis=0).any():
            raise UserError(
                "generator.pathways.lifelong clusters items by the content in their semantic IDs, and these IDs hold none; "
                "choose another tokenizer.quantizer.method, or set it to null"
            )


@dataclass(frozen=True)
class Representatives:
    """Events, or clusters of events, that end at one place of the stream.

    Attributes:
        places_K: places in the stream of the events that are shown.
        events_K: how many events each stands for.
        ages_K: how many events before the end they lie, on average.
        features_KF: codes of their features.
    """

    places_K: np.ndarray
    events_K: np.ndarray
    ages_K: np.ndarray
    features_KF: np.ndarray

    def followed_by(self, newer: Self) -> "Representatives":
        """These and those of the events right behind them, seen from the end of the latter."""
        return Representatives(
            np.concatenate([self.places_K, newer.places_K]),
            np.concatenate([self.events_K, newer.events_K]),
            np.concatenate([self.ages_K + newer.events_K.sum(dtype=np.float32), newer.ages_K]),
            np.concatenate([self.features_KF, newer.features_KF]),
        )

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return self.places_K.nbytes + self.events_K.nbytes + self.ages_K.nbytes + self.features_KF.nbytes


class LifelongReader:
    """Reads what lies before windows of one stream, and remembers clusterings.

    A user's events are clustered up to a boundary, the last multiple of representatives / 4 events before the window; those
    between it and the window stand for themselves. So all windows between two boundaries share one clustering, and what is read
    depends on the events before the window alone. No more events than representatives need no clusters.

    Args:
        source: what is known about items and features.
        item_index, features_EF: of the stream.
    """

    def __init__(self, source: LifelongSource, item_index: np.ndarray, features_EF: np.ndarray) -> None:
        self.source, self.item_index, self.features_EF = source, item_index, features_EF
        self._kept: dict[tuple[int, int], Representatives] = {}
        self._kept_bytes = 0

    def read(self, begins_B: np.ndarray, starts_B: np.ndarray) -> Lifelong:
        """The representatives of all events from `begins_B`, where the users begin, up to `starts_B`, where the windows do."""
        made = [self.representatives(int(begin), int(start)) for begin, start in zip(begins_B, starts_B, strict=True)]
        counts_B = np.array([len(row.places_K) for row in made])
        filled_BR = np.arange(max(1, int(counts_B.max(initial=0)))) < counts_B[:, None]
        items_BR = np.zeros(filled_BR.shape, np.int64)
        features_BRF = np.zeros((*filled_BR.shape, self.features_EF.shape[1]), np.int64)
        amounts_BR2 = np.zeros((*filled_BR.shape, 2), np.float32)
        items_BR[filled_BR] = np.concatenate([self.item_index[row.places_K] for row in made])
        features_BRF[filled_BR] = np.concatenate([row.features_KF for row in made])
        amounts_BR2[filled_BR] = np.concatenate([np.stack([row.events_K, row.ages_K], axis=1) for row in made])
        return Lifelong(
            torch.from_numpy(items_BR),
            torch.from_numpy(features_BRF),
            torch.from_numpy(np.log2(1 + amounts_BR2) / 4),  # of 100,000: about 4
            torch.from_numpy(filled_BR),
        )

    def representatives(self, begin: int, start: int) -> Representatives:
        """At most as many representatives as the config allows, of the events of one user from `begin` to `start`."""
        config = self.source.config
        if start - begin <= config.representatives:
            return self._themselves(begin, start)
        step = max(1, config.representatives // STEP_SHARE)
        boundary = start - (start - begin) % step
        first = max(begin, boundary + step - config.events)
        clusters = config.representatives - step + 1
        return self._clustered(first, boundary, clusters).followed_by(self._themselves(boundary, start))

    def _themselves(self, first: int, stop: int) -> Representatives:
        places = np.arange(first, stop)
        ages = (stop - places).astype(np.float32)
        return Representatives(places, np.ones(len(places), np.int32), ages, self.features_EF[first:stop])

    def _clustered(self, first: int, stop: int, clusters: int) -> Representatives:
        """The events between two places as clusters, remembered."""
        found = self._kept.pop((first, stop), None)
        if found is None:
            found = self._cluster(first, stop, clusters)
            self._kept_bytes += found.bytes
        self._kept[first, stop] = found  # at the end: used last
        while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).bytes
        return found

    def _cluster(self, first: int, stop: int, clusters: int) -> Representatives:
        """Different items are clustered, and an item's events follow it, however often it returns."""
        places_E = np.arange(first, stop)
        items_K, item_E = np.unique(self.item_index[first:stop], return_inverse=True)
        cluster_K = shown_C = np.arange(len(items_K))
        if len(items_K) > clusters:
            made = hierarchical_kmeans(self.source.vectors_NW[items_K], clusters, seed=SEED)
            cluster_K, shown_C = made.cluster_N, made.representatives_K
        newest_K = np.zeros(len(items_K), dtype=np.int64)
        newest_K[item_E] = places_E  # of several writes the last stays
        cluster_E, places_C = cluster_K[item_E], newest_K[shown_C]
        events_C = np.bincount(cluster_E)
        ages_C = np.bincount(cluster_E, weights=stop - places_E) / events_C
        features_CF = self.features_EF[places_C]
        for column in np.flatnonzero(self.source.numeric_F):
            features_CF[:, column] = _mean_bucket(self.features_EF[first:stop, column], cluster_E)
        return Representatives(places_C, events_C.astype(np.int32), ages_C.astype(np.float32), features_CF)


def _mean_bucket(codes_E: np.ndarray, cluster_E: np.ndarray) -> np.ndarray:
    """The mean bucket of each cluster's events of which it is known, 0 (unknown) where there is none."""
    known_C = np.bincount(cluster_E, weights=codes_E > 0)
    return np.rint(np.bincount(cluster_E, weights=codes_E) / np.maximum(known_C, 1)).astype(codes_E.dtype)
