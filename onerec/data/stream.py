"""The stream that a generator with pathways reads: events with their features, and which of them are targets.

Sequences hold positive events only, for every model alike. The stream may hold all events; positive ones stay the only targets,
and what a target's own event is like never stands at or before the position that predicts it.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch

from onerec.data.contract import Dataset
from onerec.data.features import FeatureVocabulary, PathwaysConfig, event_values, feature_names
from onerec.data.lifelong import LifelongReader, LifelongSource
from onerec.data.padding import padded_places
from onerec.data.split import TRAIN, Sequences, rows_of
from onerec.data.windows import Batch, ContextFeatures, Windows, every_position_windows, one_target_windows


@dataclass(frozen=True)
class EventOrder:
    """Which events the stream holds, user by user, oldest first; users as in `Sequences`.

    Attributes:
        rows_E: rows of events.parquet.
        offsets: `[U + 1]`, where each user begins.
        is_target_E: true for the events of the sequences.
        trained_E: true up to a user's last training target; nothing behind it is seen in training.
        places_S: where each event of the sequences stands in the stream.
    """

    rows_E: np.ndarray
    offsets: np.ndarray
    is_target_E: np.ndarray
    trained_E: np.ndarray
    places_S: np.ndarray


@dataclass(frozen=True)
class Stream:
    """Events of all users back to back, with everything that the generator reads.

    Attributes:
        item_index: int32 `[E]`, rows of items.parquet.
        offsets: `[U + 1]`, where each user begins.
        is_target_E: true where the event may be a target.
        features_EF: codes of the events' features.
        users_UF: codes of the users' features.
        lifelong: what is needed to read all events from before a window; None where they are not read.
    """

    item_index: np.ndarray
    offsets: np.ndarray
    is_target_E: np.ndarray
    features_EF: np.ndarray
    users_UF: np.ndarray
    lifelong: LifelongSource | None = None

    @cached_property
    def targets_before(self) -> np.ndarray:
        """`[E + 1]`, how many targets of all users stand before each place."""
        return np.concatenate([[0], np.cumsum(self.is_target_E)])

    @cached_property
    def target_places(self) -> np.ndarray:
        """The places of all targets, one at least."""
        return np.flatnonzero(self.is_target_E)

    @cached_property
    def lifelong_reader(self) -> LifelongReader | None:
        """What reads all events from before a window; it remembers what it clustered."""
        return None if self.lifelong is None else LifelongReader(self.lifelong, self.item_index, self.features_EF)

    def context_features(
        self, places_BT: np.ndarray, starts_B: np.ndarray, users_B: np.ndarray, older: int
    ) -> ContextFeatures:
        """What is known of windows whose positions read `places_BT`, and of up to `older` targets before `starts_B`."""
        before = self.targets_before
        counts_B = np.minimum(before[starts_B] - before[self.offsets[users_B]], older)
        ages_P = np.arange(max(int(counts_B.max(initial=0)), min(older, 1)), 0, -1)
        positive_filled_BP = ages_P <= counts_B[:, None]
        ranks_BP = np.where(positive_filled_BP, before[starts_B][:, None] - ages_P, 0)
        positive_places_BP = self.target_places[ranks_BP]
        reader = self.lifelong_reader
        return ContextFeatures(
            features_BTF=torch.from_numpy(self.features_EF[places_BT].astype(np.int64)),
            users_BU=torch.from_numpy(self.users_UF[users_B].astype(np.int64)),
            positive_items_BP=torch.from_numpy(self.item_index[positive_places_BP].astype(np.int64)),
            positive_features_BPF=torch.from_numpy(self.features_EF[positive_places_BP].astype(np.int64)),
            positive_filled_BP=torch.from_numpy(positive_filled_BP),
            lifelong=None if reader is None else reader.read(self.offsets[users_B], starts_B),
        )


def order_events(dataset: Dataset, sequences: Sequences, which: str) -> EventOrder:
    """The events that the stream holds.

    Args:
        dataset: where the sequences come from.
        sequences: of positive events.
        which: "positive", the events of the sequences alone, or "all" events of their users. Of several reports of one
            impression (same user, item and known time) one is kept, the positive one where there is one: an earlier report would
            give the target away.
    """
    chosen = np.zeros(dataset.events.height, dtype=bool)
    chosen[sequences.event_rows] = True
    users = rows_of(dataset.events[dataset.spec.events.user], sequences.user_ids)
    kept = chosen if which == "positive" else (users >= 0) & (chosen | _new_impressions(dataset, chosen))
    rows = np.flatnonzero(kept)
    rows_E = rows[np.argsort(users[rows], kind="stable")]
    counts_U = np.bincount(users[rows], minlength=sequences.user_count)
    offsets = np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64)
    place_of_row = np.full(dataset.events.height, -1, dtype=np.int64)
    place_of_row[rows_E] = np.arange(len(rows_E))
    places_S = place_of_row[sequences.event_rows]
    last_trained_U = np.full(sequences.user_count, -1, dtype=np.int64)
    trained_S = sequences.part == TRAIN
    user_S = np.repeat(np.arange(sequences.user_count), np.diff(sequences.offsets))
    last_trained_U[user_S[trained_S]] = places_S[trained_S]  # of several writes to one place the last stays
    trained_E = np.arange(len(rows_E)) <= np.repeat(last_trained_U, counts_U)
    return EventOrder(rows_E, offsets, chosen[rows_E], trained_E, places_S)


def _new_impressions(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
    """True for events that are no second report of an impression, nor any report of one that `chosen` holds."""
    columns = dataset.spec.events
    if columns.time is None:
        return np.ones(dataset.events.height, dtype=bool)
    key = [columns.user, columns.item, columns.time]
    table = dataset.events.select(key).with_columns(pl.Series("__chosen", chosen))
    new = pl.col(columns.time).is_null() | (pl.struct(key).is_first_distinct() & ~pl.col("__chosen").any().over(key))
    return table.select(new.alias("new"))["new"].to_numpy()


def fit_vocabulary(dataset: Dataset, config: PathwaysConfig, order: EventOrder) -> FeatureVocabulary:
    """The features that the config names, learnt from training events. Raises UserError for unknown names."""
    names = feature_names(dataset, config)["event"]
    events = event_values(dataset, names, order.rows_E, order.offsets)
    # A table without columns has no rows to choose from.
    return FeatureVocabulary.fit(dataset, config, events.filter(pl.Series(order.trained_E)) if names else events)


def make_stream(
    dataset: Dataset,
    sequences: Sequences,
    order: EventOrder,
    vocabulary: FeatureVocabulary,
    lifelong: LifelongSource | None = None,
) -> Stream:
    """The stream with the features of a vocabulary."""
    items = rows_of(dataset.events[dataset.spec.events.item], dataset.items[dataset.spec.items.id])
    names = [column.name for column in vocabulary.event]
    values = event_values(dataset, names, order.rows_E, order.offsets)
    return Stream(
        items[order.rows_E],
        order.offsets,
        order.is_target_E,
        vocabulary.event_codes(values) if names else np.zeros((len(order.rows_E), 0), np.int16),
        vocabulary.user_codes(dataset, sequences.user_ids),
        lifelong,
    )


def training_stream(stream: Stream, trained_E: np.ndarray) -> Stream:
    """The part of a stream that training sees; users keep their position."""
    kept = np.concatenate([[0], np.cumsum(trained_E)])
    offsets = kept[stream.offsets].astype(np.int64)
    return Stream(
        stream.item_index[trained_E],
        offsets,
        stream.is_target_E[trained_E],
        stream.features_EF[trained_E],
        stream.users_UF,
        stream.lifelong,
    )


@dataclass(frozen=True)
class StreamWindows(Windows):
    """Windows over a stream: a position counts where the event after it is a target.

    Attributes:
        stream: the training part.
        older: targets from before the window that are read as well, at most.
    """

    stream: Stream
    older: int

    @property
    def target_counts(self) -> np.ndarray:
        before = self.stream.targets_before
        return before[self.stops + 1] - before[self.first_targets + 1]

    def batch(self, rows: np.ndarray) -> Batch:
        plain = super().batch(rows)
        starts_B = np.where(rows >= 0, self.starts[rows], 0)
        places_BT, inside_BT = padded_places(starts_B, plain.lengths_B.numpy())
        next_counts_BT = torch.from_numpy(self.stream.is_target_E[places_BT + inside_BT])
        users_B = _users_at(self.stream, starts_B)
        return replace(
            plain,
            counted_BT=plain.counted_BT & next_counts_BT,
            context_features=self.stream.context_features(places_BT, starts_B, users_B, self.older),
        )


def stream_windows(stream: Stream, length: int, *, causal: bool, older: int) -> StreamWindows:
    """Training windows over the training part of a stream; those without any target are left out.

    Args:
        stream: see `training_stream`.
        length: most events in a window.
        causal: every position may be a target, or only the event after the window.
        older: targets from before a window that are read as well, at most.
    """
    make = every_position_windows if causal else one_target_windows
    plain = make(stream.item_index, stream.offsets, length)
    windows = StreamWindows(plain.item_index, plain.starts, plain.stops, plain.first_targets, stream, older)
    kept = windows.target_counts > 0
    return replace(
        windows,
        starts=windows.starts[kept],
        stops=windows.stops[kept],
        first_targets=windows.first_targets[kept],
    )


def _users_at(stream: Stream, places: np.ndarray) -> np.ndarray:
    return np.searchsorted(stream.offsets, places, side="right") - 1
