"""The stream of events that a generator with pathways reads: their features, and which events are targets.

Sequences hold positive events only, and all models share them. The stream may hold all events, but only positive ones are
targets. The position that predicts a target never sees the features of the target's own event.
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
    """The events of a stream, user by user, oldest first. Users are those of `Sequences`.

    Attributes:
        rows_E: rows of events.parquet.
        offsets: `[U + 1]`, where each user begins.
        is_target_E: true for the events of the sequences.
        trained_E: true up to each user's last training target. Training sees no event after it.
        places_S: the position in the stream of each event of the sequences.
    """

    rows_E: np.ndarray
    offsets: np.ndarray
    is_target_E: np.ndarray
    trained_E: np.ndarray
    places_S: np.ndarray


@dataclass(frozen=True)
class Stream:
    """Events of all users back to back, with everything that a generator reads.

    Attributes:
        item_index: int32 `[E]`, rows of items.parquet.
        offsets: `[U + 1]`, where each user begins.
        is_target_E: true if the event may be a target.
        features_EF: codes of the events' features.
        users_UF: codes of the users' features.
        lifelong: what clustering needs in order to read all events before a window; None if they are not read.
    """

    item_index: np.ndarray
    offsets: np.ndarray
    is_target_E: np.ndarray
    features_EF: np.ndarray
    users_UF: np.ndarray
    lifelong: LifelongSource | None = None

    @cached_property
    def targets_before(self) -> np.ndarray:
        """`[E + 1]`, the number of targets of all users before each position."""
        return np.concatenate([[0], np.cumsum(self.is_target_E)])

    @cached_property
    def target_places(self) -> np.ndarray:
        """The positions of all targets; there is at least one."""
        return np.flatnonzero(self.is_target_E)

    @cached_property
    def lifelong_reader(self) -> LifelongReader | None:
        """Reads all events before a window, and caches clusterings."""
        return None if self.lifelong is None else LifelongReader(self.lifelong, self.item_index, self.features_EF)

    def context_features(
        self, places_BT: np.ndarray, starts_B: np.ndarray, users_B: np.ndarray, earlier_positives: int
    ) -> ContextFeatures:
        """Context features of windows.

        Args:
            places_BT: the position in the stream of each event of the windows.
            starts_B: where each window begins.
            users_B: the user of each window.
            earlier_positives: how many targets before `starts_B` are read at most.
        """
        before = self.targets_before
        counts_B = np.minimum(before[starts_B] - before[self.offsets[users_B]], earlier_positives)
        ages_P = np.arange(max(int(counts_B.max(initial=0)), min(earlier_positives, 1)), 0, -1)
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
    """Choose the events of the stream.

    Args:
        dataset: the dataset of the sequences.
        sequences: the positive events.
        which: "positive" for the events of the sequences alone, "all" for all events of their users. Of several reports of one
            impression (same user, item and known time), only one is kept, a positive one if there is one. An earlier report
            would give the target away.
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
    last_trained_U[user_S[trained_S]] = places_S[trained_S]  # the last of several writes wins
    trained_E = np.arange(len(rows_E)) <= np.repeat(last_trained_U, counts_U)
    return EventOrder(rows_E, offsets, chosen[rows_E], trained_E, places_S)


def _new_impressions(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
    """True for the first report of each impression, unless `chosen` holds a report of that impression."""
    columns = dataset.spec.events
    if columns.time is None:
        return np.ones(dataset.events.height, dtype=bool)
    key = [columns.user, columns.item, columns.time]
    table = dataset.events.select(key).with_columns(pl.Series("__chosen", chosen))
    new = pl.col(columns.time).is_null() | (pl.struct(key).is_first_distinct() & ~pl.col("__chosen").any().over(key))
    return table.select(new.alias("new"))["new"].to_numpy()


def fit_vocabulary(dataset: Dataset, config: PathwaysConfig, order: EventOrder) -> FeatureVocabulary:
    """Learn the features that the config names from training events. Raises UserError for unknown names."""
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
    """The part of a stream that training sees. Users keep their positions."""
    kept = np.concatenate([[0], np.cumsum(trained_E)])
    return replace(
        stream,
        item_index=stream.item_index[trained_E],
        offsets=kept[stream.offsets].astype(np.int64),
        is_target_E=stream.is_target_E[trained_E],
        features_EF=stream.features_EF[trained_E],
    )


@dataclass(frozen=True)
class StreamWindows(Windows):
    """Windows over a stream. A position counts if the event after it is a target.

    Attributes:
        stream: the training part.
        earlier_positives: how many targets before the window are read at most.
    """

    stream: Stream
    earlier_positives: int

    @property
    def target_counts(self) -> np.ndarray:
        before = self.stream.targets_before
        return before[self.stops + 1] - before[self.first_targets + 1]

    def batch(self, rows: np.ndarray) -> Batch:
        plain = super().batch(rows)
        starts_B = np.where(rows >= 0, self.starts[rows], 0)
        places_BT, inside_BT = padded_places(starts_B, plain.lengths_B.numpy())
        next_counts_BT = torch.from_numpy(self.stream.is_target_E[places_BT + inside_BT])
        users_B = np.searchsorted(self.stream.offsets, starts_B, side="right") - 1
        return replace(
            plain,
            counted_BT=plain.counted_BT & next_counts_BT,
            context_features=self.stream.context_features(places_BT, starts_B, users_B, self.earlier_positives),
        )


def stream_windows(stream: Stream, length: int, *, causal: bool, earlier_positives: int) -> StreamWindows:
    """Windows over the training part of a stream. Windows without a target are left out.

    Args:
        stream: from `training_stream`.
        length: the most events in a window.
        causal: true if every position may be a target, false if only the event after the window is one.
        earlier_positives: how many targets before a window are read at most.
    """
    make = every_position_windows if causal else one_target_windows
    plain = make(stream.item_index, stream.offsets, length)
    return StreamWindows(**vars(plain), stream=stream, earlier_positives=earlier_positives).with_targets()
