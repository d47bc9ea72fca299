"""All impressions with their signals, positive or not. Rankers and reward models learn from them.

The split is made on the events that the generator learns from (`Sequences`). Impressions between those events follow the split.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from onerec.data.checks import PERIODS, nearest_name
from onerec.data.contract import Dataset
from onerec.data.features import FeatureVocabulary, PathwaysConfig, event_values, feature_names
from onerec.data.padding import batches_of_like_length, padded_places
from onerec.data.requests import Requests
from onerec.data.split import TEST, VALID, Sequences
from onerec.data.stream import EventOrder, Stream, make_stream, order_events, training_stream
from onerec.data.windows import Windows, every_position_windows, moved
from onerec.errors import UserError

NEXT_ITEM = "next_item"
EVERYTHING = PathwaysConfig(stream="all", event_features="all", item_features="all", user_features="all")


@dataclass(frozen=True)
class ImpressionBatch:
    """Histories, and candidates to be judged after some event of a history.

    Attributes:
        items_BT: int64 history items, oldest first, padded on the right.
        features_BTF: int64, codes of their events' features.
        users_BU: int64, codes of the users' features.
        candidates_BX: int64 items.
        counts_BX: int64, the number of events of the history before each candidate; may be 0.
        labels_BXO: float32, 0 or 1 per objective; NaN if unknown or not to be learnt.
    """

    items_BT: Tensor
    features_BTF: Tensor
    users_BU: Tensor
    candidates_BX: Tensor
    counts_BX: Tensor
    labels_BXO: Tensor

    def to(self, device: torch.device | str) -> "ImpressionBatch":
        """The same on `device`."""
        return moved(self, device)


@dataclass(frozen=True)
class ImpressionLog:
    """All impressions of all users, user by user, oldest first.

    Attributes:
        stream: their items and features.
        parts_E: int8, training, validation or test; never falls within a user.
        labels_EO: float32, 0 or 1; NaN if not recorded.
        objectives: names of the O columns.
        places_S: the position in this log of each event of the sequences.
        user_ids: U, as in the dataset.
    """

    stream: Stream
    parts_E: np.ndarray
    labels_EO: np.ndarray
    objectives: list[str]
    places_S: np.ndarray
    user_ids: pl.Series

    def users(self) -> np.ndarray:
        """The user of each impression as a position in `user_ids`, int64 `[E]`."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.stream.offsets))

    def histories_of(self, requests: Requests) -> tuple[np.ndarray, np.ndarray] | None:
        """The user of each request, and the position in this log where the history ends; None if the requests do not say.

        Requests say it by their target's event, or by the end of their history in a generator's stream. That stream may hold
        positive events only.
        """
        users, ends = requests.users_C, requests.stream_ends_C
        if (requests.target_events_C >= 0).all():
            return users, self.places_S[requests.target_events_C]
        if requests.stream is None or ends is None:
            return None
        positives_only = len(requests.stream.item_index) == len(self.places_S)
        places = self.places_S if positives_only else np.arange(len(self.parts_E))
        at_end = ends == requests.stream.offsets[users + 1]
        return users, np.where(at_end, self.stream.offsets[users + 1], places[np.minimum(ends, len(places) - 1)])

    def batches(
        self, users_C: np.ndarray, ends_C: np.ndarray, candidates_CX: np.ndarray, length: int, batch_size: int
    ) -> Iterator[tuple[np.ndarray, ImpressionBatch]]:
        """Batches of the newest `length` impressions before `ends_C`, with candidates to judge after them.

        Histories of similar length share a batch.

        Yields:
            the rows of the histories, and their batch without labels.
        """
        starts_C = np.maximum(self.stream.offsets[users_C], ends_C - length)
        counts_C = ends_C - starts_C
        for cases in batches_of_like_length(counts_C, batch_size):
            places_BT, inside_BT = padded_places(starts_C[cases], counts_C[cases])
            items_BT = np.where(inside_BT, self.stream.item_index[places_BT], 0)
            features_BTF, users_BU = self.stream.features_EF[places_BT], self.stream.users_UF[users_C[cases]]
            whole = (items_BT, features_BTF, users_BU, candidates_CX[cases], counts_C[cases][:, None])
            items, features, users, candidates, counts = (torch.from_numpy(array.astype(np.int64)) for array in whole)
            unknown = torch.full((*candidates.shape, len(self.objectives)), torch.nan)
            yield cases, ImpressionBatch(items, features, users, candidates, counts.expand(candidates.shape), unknown)

    def of_items(self, requests: Requests) -> "ImpressionLog":
        """A log of the requests' histories, one user per request, with items and nothing else."""
        events, count = len(requests.history_items), len(requests)
        stream = replace(
            self.stream,
            item_index=requests.history_items,
            offsets=requests.history_offsets,
            is_target_E=np.ones(events, dtype=bool),
            features_EF=np.zeros((events, self.stream.features_EF.shape[1]), np.int16),
            users_UF=np.zeros((count, self.stream.users_UF.shape[1]), np.int32),
        )
        return replace(self, stream=stream)


def choose_objectives(dataset: Dataset, asked: list[str] | Literal["all"]) -> list[str]:
    """The signals to predict, or only the next item if the dataset has fewer than two signals.

    Raises:
        UserError: a signal that is not in dataset.yaml, a signal that is named twice, or the next item together with signals.
    """
    signals, where = dataset.spec.events.signals, dataset.folder / "dataset.yaml"
    if asked == "all":
        return list(signals) if len(signals) > 1 else [NEXT_ITEM]
    if asked == [NEXT_ITEM]:
        return [NEXT_ITEM]
    for name in asked:
        if name == NEXT_ITEM:
            raise UserError(f"reward.objectives: {NEXT_ITEM} stands alone; it cannot be combined with signals")
        if name not in signals:
            raise UserError(f'reward.objectives: "{name}" is no signal of {where}; {nearest_name(name, signals)}')
    if not asked or len(set(asked)) < len(asked):
        raise UserError("reward.objectives: name at least one objective, and each only once, or write all")
    return list(asked)


def fit_impression_vocabulary(dataset: Dataset, sequences: Sequences, split: str | None) -> FeatureVocabulary:
    """Learn all features that dataset.yaml names from impressions before the test part."""
    order = order_events(dataset, sequences, "all")
    kept = parts_of_impressions(dataset, sequences, order, split) != TEST
    names = feature_names(dataset, EVERYTHING)["event"]
    events = event_values(dataset, names, order.rows_E, order.offsets)
    return FeatureVocabulary.fit(dataset, EVERYTHING, events.filter(pl.Series(kept)) if names else events)


def read_impressions(
    dataset: Dataset, sequences: Sequences, split: str | None, objectives: list[str], vocabulary: FeatureVocabulary
) -> ImpressionLog:
    """The log of a dataset.

    Args:
        dataset: the dataset of the sequences.
        sequences: the events that the generator learns from; they fix the parts.
        split: the method that split them; None for the dataset's own.
        objectives: as from `choose_objectives`. For the next item, the label of the sequences' events is 1.
        vocabulary: the codes of features.
    """
    order = order_events(dataset, sequences, "all")
    stream = make_stream(dataset, sequences, order, vocabulary)
    if objectives == [NEXT_ITEM]:
        labels_EO = np.where(order.is_target_E, 1.0, np.nan)[:, None].astype(np.float32)
    else:
        signals = dataset.events[order.rows_E].select(pl.col(objectives).cast(pl.Float32).fill_null(float("nan")))
        labels_EO = signals.to_numpy()
    parts_E = parts_of_impressions(dataset, sequences, order, split)
    return ImpressionLog(stream, parts_E, labels_EO, objectives, order.places_S, sequences.user_ids)


def parts_of_impressions(dataset: Dataset, sequences: Sequences, order: EventOrder, split: str | None) -> np.ndarray:
    """The part of each impression of the stream, int8 `[E]`, including impressions that are not in the sequences."""
    columns, method = dataset.spec.events, split or dataset.spec.split
    if method == "by_period" and columns.period is not None:
        periods = dataset.events[columns.period][order.rows_E]
        return periods.replace_strict(PERIODS, return_dtype=pl.Int8).to_numpy()
    parts_E = np.zeros(len(order.rows_E), np.int8)
    for part in (VALID, TEST):
        begun_S = sequences.part >= part
        if method == "by_time" and columns.time is not None:
            times = dataset.events[columns.time]
            first = times[sequences.event_rows[begun_S]].min()
            if first is not None:
                begun_E = (times[order.rows_E] >= first).fill_null(False).to_numpy()
                parts_E[begun_E] = part
        else:
            places = order.places_S[begun_S]
            users = np.searchsorted(order.offsets, places, side="right") - 1
            first_U = order.offsets[1:].copy()
            np.minimum.at(first_U, users, places)
            parts_E[np.arange(len(parts_E)) >= np.repeat(first_U, np.diff(order.offsets))] = part
    return parts_E


def user_draws(user_ids: pl.Series, purpose: str) -> np.ndarray:
    """A number in [0, 1) for each user, float64 `[U]`. It depends on the user's id and the purpose alone."""
    digests = (hashlib.blake2b(f"{purpose}:{user}".encode(), digest_size=8).digest() for user in user_ids.to_list())
    return np.array([int.from_bytes(digest, "big") / 2.0**64 for digest in digests])


def users_of_half(user_ids: pl.Series, half: Literal["first", "second"] | None) -> np.ndarray:
    """True for the users of a half, boolean `[U]`; for all users if `half` is None."""
    if half is None:
        return np.ones(len(user_ids), dtype=bool)
    first_U = user_draws(user_ids, "half") < 0.5
    return first_U if half == "first" else ~first_U


@dataclass(frozen=True)
class ImpressionWindows(Windows):
    """Windows in which every impression with labels to learn is a candidate after the impressions before it.

    Attributes:
        stream: the impressions before the test part.
        labels_EO: NaN if unknown, and in rows that are not to be learnt.
    """

    stream: Stream
    labels_EO: np.ndarray

    @property
    def target_counts(self) -> np.ndarray:
        """Number of candidates with a label in each window."""
        before = np.concatenate([[0], np.cumsum(~np.isnan(self.labels_EO).all(axis=1))])
        counts: np.ndarray = before[self.stops + 1] - before[self.first_targets + 1]
        return counts

    def batch(self, rows: np.ndarray) -> ImpressionBatch:  # type: ignore[override]  # this model reads other batches
        """The windows in `rows`. Row -1 stands for an empty window."""
        plain = super().batch(rows)
        starts_B = np.where(rows >= 0, self.starts[rows], 0)
        places_BT, inside_BT = padded_places(starts_B, plain.lengths_B.numpy())
        users_B = np.searchsorted(self.stream.offsets, starts_B, side="right") - 1
        labels_BTO = torch.from_numpy(self.labels_EO[np.minimum(places_BT + 1, len(self.item_index) - 1)])
        features_BTF = torch.from_numpy(self.stream.features_EF[places_BT].astype(np.int64))
        return ImpressionBatch(
            plain.items_BT,
            torch.where(torch.from_numpy(inside_BT)[..., None], features_BTF, 0),
            torch.from_numpy(self.stream.users_UF[users_B].astype(np.int64)),
            plain.targets_BT,
            (torch.arange(inside_BT.shape[1]) + 1).expand(len(rows), -1),
            labels_BTO.masked_fill(~plain.counted_BT[..., None], torch.nan),
        )


def impression_windows(log: ImpressionLog, learnt_E: np.ndarray, length: int) -> ImpressionWindows:
    """Windows over the impressions before the test part that hold an impression of `learnt_E`, boolean `[E]`.

    A user's first impression is history only, never a candidate, because nothing precedes it.
    """
    kept_E = log.parts_E != TEST
    labels_EO = np.where(learnt_E[:, None], log.labels_EO, np.nan)[kept_E]
    stream = training_stream(log.stream, kept_E)
    plain = every_position_windows(stream.item_index, stream.offsets, length)
    return ImpressionWindows(**vars(plain), stream=stream, labels_EO=labels_EO).with_targets()
