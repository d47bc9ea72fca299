"""A user's long past in few rows: up to 100,000 events before a window become up to 2,000 representatives.

This is the lifelong pathway of the OneRec Technical Report (arXiv 2506.13695). Events of items with similar vectors form a
cluster. The item nearest to the cluster's centre represents it. Item and categorical features are those of that item's newest
event; numeric features are averaged over the events of the cluster.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import Field

from onerec.data.windows import Lifelong
from onerec.errors import UserError
from tokenizer.clustering.hierarchical_kmeans import hierarchical_kmeans
from tokenizer.common.settings import Length, Settings, Width

STEP_SHARE = 4  # a user is clustered again after every representatives / STEP_SHARE events
SEED = 0
CACHE_BYTES = 256 << 20  # of cached clusterings; a log that needs more clusters again and again


class LifelongConfig(Settings):
    """How much of the past is read, and how it is compressed.

    Attributes:
        events: the most events before the window.
        representatives: the most rows that these events become.
        tokens: number of query tokens that the representatives are compressed to.
        layers: blocks of cross-attention and feed-forward network that compress them.
    """

    events: int = Field(100_000, gt=0)
    representatives: Length = 2000
    tokens: Width = 128
    layers: int = Field(2, gt=0, le=1_000)


@dataclass(frozen=True)
class LifelongSource:
    """What clustering needs in addition to the events.

    Attributes:
        config: how much is read.
        vectors_NW: float32, one vector per item. Items with similar vectors share clusters.
        numeric_F: boolean, true for event features that are buckets of a number.
    """

    config: LifelongConfig
    vectors_NW: np.ndarray
    numeric_F: np.ndarray

    def __post_init__(self) -> None:
        if len(self.vectors_NW) > 1 and not np.ptp(self.vectors_NW, axis=0).any():
            raise UserError(
                "generator.pathways.lifelong clusters items by the content in their semantic IDs, but these IDs hold none; "
                "choose another tokenizer.quantizer.method, or set generator.pathways.lifelong to null"
            )


@dataclass(frozen=True)
class Representatives:
    """Representatives of consecutive events of one user, each of a single event or of a cluster.

    Attributes:
        places_K: position in the stream of the event that represents each cluster.
        events_K: number of events in each cluster.
        ages_K: mean distance of each cluster's events to the end of the stretch, in events.
        features_KF: codes of their features.
    """

    places_K: np.ndarray
    events_K: np.ndarray
    ages_K: np.ndarray
    features_KF: np.ndarray

    def followed_by(self, newer: Self) -> "Representatives":
        """These representatives and those of the events right after them, with ages counted from the new end."""
        return Representatives(
            np.concatenate([self.places_K, newer.places_K]),
            np.concatenate([self.events_K, newer.events_K]),
            np.concatenate([self.ages_K + newer.events_K.sum(dtype=np.float32), newer.ages_K]),
            np.concatenate([self.features_KF, newer.features_KF]),
        )

    @property
    def bytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.places_K.nbytes + self.events_K.nbytes + self.ages_K.nbytes + self.features_KF.nbytes


class LifelongReader:
    """Reads the events before windows of one stream, and caches clusterings.

    A user's events are clustered up to a boundary: the last multiple of representatives / 4 events before the window. The events
    between the boundary and the window represent themselves. All windows between two boundaries therefore share one clustering,
    and the result depends only on events before the window. If there are no more events than representatives, nothing is
    clustered.

    Args:
        source: vectors of items and kinds of features.
        item_index, features_EF: those of the stream.
    """

    def __init__(self, source: LifelongSource, item_index: np.ndarray, features_EF: np.ndarray) -> None:
        self.source, self.item_index, self.features_EF = source, item_index, features_EF
        self._kept: dict[tuple[int, int], Representatives] = {}
        self._kept_bytes = 0

    def read(self, begins_B: np.ndarray, starts_B: np.ndarray) -> Lifelong:
        """The representatives of all events from `begins_B`, where users begin, to `starts_B`, where windows begin."""
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
            torch.from_numpy(np.log2(1 + amounts_BR2) / 4),  # about 4 for 100,000
            torch.from_numpy(filled_BR),
        )

    def representatives(self, begin: int, start: int) -> Representatives:
        """Representatives of one user's events from `begin` to `start`, as many as the config allows at most."""
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
        """The events between two positions as clusters, from the cache if they are in it."""
        found = self._kept.pop((first, stop), None)
        if found is None:
            found = self._cluster(first, stop, clusters)
            self._kept_bytes += found.bytes
        self._kept[first, stop] = found  # moves to the end: most recently used
        while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).bytes
        return found

    def _cluster(self, first: int, stop: int, clusters: int) -> Representatives:
        """Cluster the distinct items. All events of an item belong to the item's cluster."""
        places_E = np.arange(first, stop)
        items_K, item_E = np.unique(self.item_index[first:stop], return_inverse=True)
        cluster_K = shown_C = np.arange(len(items_K))
        if len(items_K) > clusters:
            made = hierarchical_kmeans(self.source.vectors_NW[items_K], clusters, seed=SEED)
            cluster_K, shown_C = made.cluster_N, made.representatives_K
        newest_K = np.zeros(len(items_K), dtype=np.int64)
        newest_K[item_E] = places_E  # the last of several writes wins
        cluster_E, places_C = cluster_K[item_E], newest_K[shown_C]
        events_C = np.bincount(cluster_E)
        ages_C = np.bincount(cluster_E, weights=stop - places_E) / events_C
        features_CF = self.features_EF[places_C]
        for column in np.flatnonzero(self.source.numeric_F):
            features_CF[:, column] = _mean_bucket(self.features_EF[first:stop, column], cluster_E)
        return Representatives(places_C, events_C.astype(np.int32), ages_C.astype(np.float32), features_CF)


def _mean_bucket(codes_E: np.ndarray, cluster_E: np.ndarray) -> np.ndarray:
    """Each cluster's mean bucket over the events that have one; 0 (unknown) if none has."""
    known_C = np.bincount(cluster_E, weights=codes_E > 0)
    return np.rint(np.bincount(cluster_E, weights=codes_E) / np.maximum(known_C, 1)).astype(codes_E.dtype)
