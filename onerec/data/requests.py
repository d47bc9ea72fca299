"""Who asks for a list: users' histories at a moment, with everything that a model may read of them.

Evaluation cases and the prompts of alignment are requests with known targets. A request from outside has no target, and its user
may be missing from the dataset.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from onerec.data import checks
from onerec.data.mapped_arrays import gather_ranges
from onerec.data.padding import batches_of_like_length, padded_places
from onerec.data.split import PARTS, Sequences, even_rows, places_of_part
from onerec.data.stream import EventOrder, Stream
from onerec.data.windows import Batch
from onerec.errors import UserError

UNKNOWN = -1


@dataclass(frozen=True)
class Requests:
    """C requests. The history of request `c` is `history_items[history_offsets[c]:history_offsets[c + 1]]`, oldest first.

    Attributes:
        history_items: int32, items (rows of items.parquet) of the positive events of all histories, back to back.
        history_offsets: int64 `[C + 1]`, where each history begins.
        users_C: int32, positions in `Sequences.user_ids`; -1 for a user who is not in the dataset.
        targets_C: int32, the item that the user took next; -1 if unknown.
        target_events_C: int64, the target's position in `Sequences`; -1 if it has none.
        stream: the events that a generator with pathways reads; None if only items are known.
        stream_ends_C: int64, where each history ends in the stream, exclusive; None without a stream.
        dropped: number of targets that were left out because the user has no earlier event.
    """

    history_items: np.ndarray
    history_offsets: np.ndarray
    users_C: np.ndarray
    targets_C: np.ndarray
    target_events_C: np.ndarray
    stream: Stream | None = None
    stream_ends_C: np.ndarray | None = None
    dropped: int = 0

    @classmethod
    def of_histories(cls, history_items: np.ndarray, history_offsets: np.ndarray) -> Self:
        """Requests with histories of items and nothing else. See `Requests` for both arrays."""
        unknown_C = np.full(len(history_offsets) - 1, UNKNOWN, dtype=np.int32)
        return cls(history_items, history_offsets, unknown_C, unknown_C, unknown_C.astype(np.int64))

    def __len__(self) -> int:
        return len(self.users_C)

    @property
    def history_lengths_C(self) -> np.ndarray:
        """Number of positive events in each history, int64."""
        return np.diff(self.history_offsets)

    def pick(self, rows: np.ndarray) -> "Requests":
        """The requests in these rows, in the order of `rows`."""
        lengths = self.history_lengths_C[rows]
        history_items = np.empty(int(lengths.sum()), dtype=self.history_items.dtype)
        gather_ranges(self.history_items, self.history_offsets[rows], lengths, history_items)
        return replace(
            self,
            history_items=history_items,
            history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            users_C=self.users_C[rows],
            targets_C=self.targets_C[rows],
            target_events_C=self.target_events_C[rows],
            stream_ends_C=None if self.stream_ends_C is None else self.stream_ends_C[rows],
        )

    def reading(self, stream: Stream, order: EventOrder) -> "Requests":
        """The same requests with a stream. Each history ends right before the target's event.

        Args:
            stream: made from the dataset that the requests come from.
            order: the events of that stream.
        """
        return replace(self, stream=stream, stream_ends_C=order.places_S[self.target_events_C])

    def batches(self, length: int, earlier_positives: int, batch_size: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batches for inference. Requests of similar length share a batch.

        Args:
            length: how many of the newest events are read at most; the largest T.
            earlier_positives: how many positive events before those are read at most. Needs a stream.
            batch_size: requests per batch.

        Yields:
            the rows of the requests, and their batch. Its targets mean nothing, and none of them counts.
        """
        ends_C = self.history_offsets[1:] if self.stream_ends_C is None else self.stream_ends_C
        begins_C = self.history_offsets[:-1] if self.stream is None else self.stream.offsets[self.users_C]
        starts_C = np.maximum(begins_C, ends_C - length)
        lengths_C = ends_C - starts_C
        items = self.history_items if self.stream is None else self.stream.item_index
        for rows in batches_of_like_length(lengths_C, batch_size):
            places_BT, inside_BT = padded_places(starts_C[rows], lengths_C[rows])
            items_BT = torch.from_numpy(np.where(inside_BT, items[places_BT], 0).astype(np.int64))
            lengths_B = torch.from_numpy(np.maximum(lengths_C[rows], 1).astype(np.int64))
            context = None
            if self.stream is not None:
                context = self.stream.context_features(places_BT, starts_C[rows], self.users_C[rows], earlier_positives)
            yield rows, Batch(items_BT, items_BT, torch.zeros_like(items_BT, dtype=torch.bool), lengths_B, context)

    def seen(self, rows: np.ndarray) -> Tensor:
        """All items of the histories in `rows`, int64 `[B, S]`, padded with -1. Decoding excludes these items."""
        places_BS, inside_BS = padded_places(self.history_offsets[rows], self.history_lengths_C[rows])
        return torch.from_numpy(np.where(inside_BS, self.history_items[places_BS], -1).astype(np.int64))


def evaluation_requests(
    sequences: Sequences,
    part: Literal["valid", "test"],
    targets_per_user: Literal["first", "all"],
    at_most: int | None = None,
) -> Requests:
    """One request per target in `part`. Its history holds all earlier events of the user, earlier parts included.

    Args:
        sequences: of all users.
        part: "valid" or "test".
        targets_per_user: "first" takes each user's first event in the part as target; "all" takes every event.
        at_most: if there are more requests than this, take an even sample (`even_rows`). None: no limit.

    Returns:
        the requests. A target without an earlier event is dropped and counted.

    Raises:
        UserError: an unknown part or an unknown `targets_per_user`, or sequences without order, which have no next item.
    """
    if part not in ("valid", "test"):
        raise UserError(f'unknown part "{part}"; {checks.nearest_name(part, ["valid", "test"])}')
    if targets_per_user not in ("first", "all"):
        raise UserError(f'unknown targets_per_user "{targets_per_user}"; use first or all')
    if not sequences.ordered:
        raise UserError(
            'events.order is "none", so the events of a user are a set and there is no next item to predict'
        )
    targets = np.concatenate([np.zeros(0, np.int64), *places_of_part(sequences, PARTS[part])])
    users = np.searchsorted(sequences.offsets, targets, side="right") - 1
    if targets_per_user == "first" and len(targets):
        first = np.diff(users, prepend=-1) > 0
        targets, users = targets[first], users[first]
    starts = sequences.offsets[users]
    asked = np.flatnonzero(targets > starts)
    dropped = len(targets) - len(asked)
    if at_most is not None:
        asked = asked[even_rows(len(asked), at_most)]
    return requests_at(sequences, targets[asked], dropped)


def requests_at(sequences: Sequences, target_events: np.ndarray, dropped: int = 0) -> Requests:
    """Requests for the targets at int64 positions of the sequences, none of which is a user's first event.

    Each history holds all earlier events of the user. `dropped` is that of `Requests`.
    """
    users = np.searchsorted(sequences.offsets, target_events, side="right") - 1
    targets = sequences.item_index[target_events].astype(np.int32)
    asked = requests_before(sequences, users, target_events, targets)
    return replace(asked, target_events_C=target_events, dropped=dropped)


def requests_before(sequences: Sequences, users: np.ndarray, ends: np.ndarray, targets: np.ndarray) -> Requests:
    """Requests with histories that end at given positions of the sequences.

    Args:
        sequences: of all users.
        users: positions in `sequences.user_ids`, `[C]`.
        ends: where each history ends in the sequences, exclusive, `[C]`.
        targets: the items that the users took next, -1 if unknown, `[C]`.
    """
    starts = sequences.offsets[users]
    lengths = ends - starts
    history_items = np.empty(int(lengths.sum()), dtype=np.int32)
    gather_ranges(sequences.item_index, starts, lengths, history_items)
    return Requests(
        history_items,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        users.astype(np.int32),
        targets,
        np.full(len(users), UNKNOWN, dtype=np.int64),
    )
