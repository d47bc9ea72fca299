"""The split of events into training, validation and test.

Sequences are flat arrays of values and offsets, in memory or mapped from files. Events are read and placed piece by piece, so
memory grows with users and items but not with the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from onerec.data import checks
from onerec.data.contract import SPLIT_METHODS, Dataset
from onerec.data.event_log import ROW
from onerec.data.mapped_arrays import new_array, pieces_of
from onerec.data.order_statistics import values_at_ranks
from onerec.errors import UserError

TRAIN, VALID, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}

Moment = int | float | date | datetime


@dataclass(frozen=True)
class Sequences:
    """Every user's events back to back, oldest first.

    Events of user `u` are `item_index[offsets[u]:offsets[u + 1]]`. Users are ordered by their first event in the file. A user
    without events (after the filter on `positive`) is absent.
    """

    user_ids: pl.Series  # U, as in the dataset
    item_index: np.ndarray  # E int32, rows of items.parquet
    offsets: np.ndarray  # U + 1 int64
    part: np.ndarray  # E int8: 0 training, 1 validation, 2 test; never falls within a user
    ordered: bool = True  # False: a user's events are a set without order
    event_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # E int64, rows of events.parquet

    @property
    def user_count(self) -> int:
        return len(self.offsets) - 1


def split_sequences(
    dataset: Dataset,
    *,
    method: str | None = None,
    positive: str | None = None,
    fractions: tuple[float, float] = (0.8, 0.1),
    cuts: tuple[Moment, Moment] | None = None,
    folder: Path | None = None,
) -> Sequences:
    """Group events by user and split them into parts.

    Args:
        dataset: a checked dataset.
        method: None for the dataset's own split, or one of:
            `leave_one_out`: each user's last event is for test, the one before for validation, the rest for training. Users with
            fewer than three events are for training only.
            `by_time`: all users are cut at the same two moments. Events without a time count as the oldest.
            `by_period`: the period column names the part.
        positive: a signal. Only events where it is 1 are kept, as history and as targets. None keeps all events.
        fractions: for `by_time` without `cuts`: the shares of all events for training and validation; the rest is for test.
        cuts: for `by_time`: the moments at which validation and test begin, in the unit of the time column.
        folder: where to write the arrays as mapped files; None keeps them in memory.

    Returns:
        the sequences. An event that was logged twice (same user, item and time) counts once.

    Raises:
        UserError: an unknown method or signal, cuts that do not fit, or a set of events for a split that needs an order.
    """
    spec = dataset.spec
    method = method or spec.split
    if method not in SPLIT_METHODS:
        raise UserError(f'unknown split "{method}"; {checks.nearest_name(method, SPLIT_METHODS)}')
    where = dataset.folder / "dataset.yaml"
    if not spec.events.ordered and method != "by_period":
        raise UserError(f'{where}: split {method} needs an order, but events.order is "none"; use by_period')
    chosen = _choose_events(dataset, positive)
    user_ids, counts_U = _count_users(chosen)
    offsets = np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64)
    if not offsets[-1]:
        raise UserError(f'{dataset.folder / "events.parquet"}, column "{positive}": never 1; choose another signal')
    part_of_event = None
    if method == "by_time":
        part_of_event = _by_time(chosen, fractions, cuts)
    elif method == "by_period":
        part_of_event = _by_period(dataset)
    arrays = [
        new_array(folder, name, int(offsets[-1]), dtype)
        for name, dtype in (("item_index", np.int32), ("part", np.int8), ("event_rows", np.int64))
    ]
    _place_events(chosen, user_ids, offsets, part_of_event, *arrays)
    item_index, part, event_rows = arrays
    if part_of_event is None:
        _leave_one_out(offsets, part)
    return Sequences(user_ids, item_index, offsets, part, spec.events.ordered, event_rows)


@dataclass(frozen=True)
class _Chosen:
    """The events that count: only those with the positive signal, if there is one, and only one report of each impression."""

    dataset: Dataset
    positive: str | None
    first_report_E: np.ndarray | None  # for every row of the log; None if no impression is reported twice

    def pieces(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Their `columns` and ROW, in the order of the log, piece by piece."""
        signal = [] if self.positive is None else [self.positive]
        for piece in self.dataset.log.pieces(list(dict.fromkeys([*columns, *signal]))):
            if self.positive is not None:
                piece = piece.filter(pl.col(self.positive) == 1)
            if self.first_report_E is not None:
                piece = piece.filter(pl.Series(self.first_report_E[piece[ROW].to_numpy()]))
            if piece.height:
                yield piece


def _choose_events(dataset: Dataset, positive: str | None) -> _Chosen:
    columns = dataset.spec.events
    if positive is not None and positive not in columns.signals:
        hint = checks.nearest_name(positive, columns.signals)
        raise UserError(f'{dataset.folder / "dataset.yaml"}: events.signals has no "{positive}"; {hint}')
    if columns.time is None or columns.play_time is None:  # repeats need times, and are refused without play times
        return _Chosen(dataset, positive, None)
    # Players report some impressions twice. The second report would be an easy target.
    first_report_E = np.ones(dataset.log.height, dtype=bool)
    key = [columns.user, columns.item, columns.time]
    for part in dataset.log.slices_of_users(columns.user, key if positive is None else [*key, positive]):
        if positive is not None:
            part = part.filter(pl.col(positive) == 1)
        first_report_E[part.filter(checks.repeated(*key))[ROW].to_numpy()] = False
    return _Chosen(dataset, positive, first_report_E)


def _count_users(chosen: _Chosen) -> tuple[pl.Series, np.ndarray]:
    """User ids in order of first appearance, and the number of events of each."""
    column = chosen.dataset.spec.events.user
    known = pl.Series(column, [], dtype=chosen.dataset.log.schema[column])
    counts_U = np.zeros(0, dtype=np.int64)
    for piece in chosen.pieces([column]):
        here = piece[column].unique(maintain_order=True)
        known = pl.concat([known, here.filter(pl.Series(rows_of(here, known) < 0))])
        more_U = np.bincount(rows_of(piece[column], known), minlength=len(known))
        more_U[: len(counts_U)] += counts_U
        counts_U = more_U
    return known, counts_U


def _place_events(
    chosen: _Chosen,
    user_ids: pl.Series,
    offsets: np.ndarray,
    part_of_event: pl.Expr | None,
    item_index: np.ndarray,
    part: np.ndarray,
    event_rows: np.ndarray,
) -> None:
    """Fill the arrays of `Sequences`. Each event goes behind the earlier events of its user.

    `part_of_event` computes the part from an event's own columns. If it is None, `part` stays as it is.
    """
    columns, item_ids = chosen.dataset.spec.events, items_of(chosen.dataset)
    free_U = offsets[:-1].copy()
    more = [] if part_of_event is None else part_of_event.meta.root_names()
    for piece in chosen.pieces([columns.user, columns.item, *more]):
        users = rows_of(piece[columns.user], user_ids)
        order = np.argsort(users, kind="stable")
        users = users[order]
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        lengths = np.diff(starts, append=len(users))
        places = free_U[users] + np.arange(len(users)) - np.repeat(starts, lengths)
        free_U[users[starts]] += lengths
        item_index[places] = rows_of(piece[columns.item], item_ids)[order]
        event_rows[places] = piece[ROW].to_numpy()[order]
        if part_of_event is not None:
            part[places] = piece.select(part_of_event.alias("part"))["part"].to_numpy()[order]


def items_of(dataset: Dataset) -> pl.Series:
    """The item ids, in the order of items.parquet."""
    return dataset.items[dataset.spec.items.id]


def rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """The position of each id in `known`, int32; -1 for an unknown id."""
    left = checks.comparable(ids).alias("id").to_frame()
    right = checks.comparable(known).alias("id").to_frame().with_row_index("row")
    rows = left.join(right, on="id", how="left", maintain_order="left")["row"]
    return rows.cast(pl.Int32).fill_null(-1).to_numpy()


def _leave_one_out(offsets: np.ndarray, part: np.ndarray) -> None:
    ends = offsets[1:][np.diff(offsets) >= 3]
    part[ends - 1] = TEST
    part[ends - 2] = VALID


def _by_time(chosen: _Chosen, fractions: tuple[float, float], cuts: tuple[Moment, Moment] | None) -> pl.Expr:
    dataset = chosen.dataset
    column = dataset.spec.events.time
    if column is None:
        where = dataset.folder / "dataset.yaml"
        raise UserError(f"{where}: split by_time needs a time column, but events.time names none; use leave_one_out")
    valid_start, test_start = cuts if cuts is not None else _quantile_cuts(chosen, column, fractions)
    kind = dataset.log.schema[column]
    place = checks.place(dataset.folder / "events.parquet", column)
    unfit = UserError(
        f"{place}: the cuts {valid_start} and {test_start} cannot be compared with {kind}; "
        "give both cuts in the column's own unit"
    )
    # polars would read a number as microseconds when it compares it with a datetime. Nobody means that.
    if any(isinstance(cut, date) != kind.is_temporal() for cut in (valid_start, test_start)):
        raise unfit
    time = pl.col(column)
    part = pl.when(time >= test_start).then(TEST).when(time >= valid_start).then(VALID).otherwise(TRAIN).cast(pl.Int8)
    try:
        if valid_start > test_start:  # type: ignore[operator]
            raise UserError(f"{place}: validation must begin before the test, but {valid_start} is after {test_start}")
        pl.DataFrame(schema={column: kind}).select(part)  # fails if the two cannot be compared
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise unfit from error
    return part


def _quantile_cuts(chosen: _Chosen, column: str, fractions: tuple[float, float]) -> tuple[Moment, Moment]:
    """The two moments before which the given shares of the events lie. Events with equal times stay together."""
    train, valid = fractions
    if not (train > 0 and valid >= 0 and train + valid < 1):
        raise UserError(
            f"by_time: the fractions {fractions} must be shares for training and validation that leave some for test"
        )
    counts = [(piece.height, piece[column].null_count()) for piece in chosen.pieces([column])]
    events, unknown = (sum(count) for count in zip(*counts, strict=True))
    # (0.7 + 0.1) * 10 is 7.999… in floats, hence the rounding. Events without a time come first.
    ranks = [int(round(share * events, 6)) - unknown for share in (train, train + valid)]
    if ranks[0] < 0:
        raise UserError(
            f'column "{column}": {unknown} of {events} events have no time, more than the training '
            f"share of {train}; give explicit cuts, or use by_period"
        )
    first, second = values_at_ranks(lambda: (piece[column] for piece in chosen.pieces([column])), ranks)
    return first, second


def _by_period(dataset: Dataset) -> pl.Expr:
    column = dataset.spec.events.period
    if column is None:
        where = dataset.folder / "dataset.yaml"
        raise UserError(
            f"{where}: split by_period needs a period column, but events.period names none; use leave_one_out"
        )
    return pl.col(column).replace_strict(checks.PERIODS, return_dtype=pl.Int8)


def places_of_part(sequences: Sequences, part: int) -> Iterator[np.ndarray]:
    """The positions of a part's events in the sequences, piece by piece."""
    for piece in pieces_of(sequences.part):
        yield np.flatnonzero(sequences.part[piece] == part) + piece.start


def count_part(sequences: Sequences, part: int) -> np.ndarray:
    """The number of events that each user has in a part, int64 `[U]`."""
    counts_U = np.zeros(sequences.user_count, dtype=np.int64)
    for places in places_of_part(sequences, part):
        users = np.searchsorted(sequences.offsets, places, side="right") - 1
        if len(users):
            counts_U[users[0] : users[-1] + 1] += np.bincount(users - users[0])
    return counts_U


def training_sequences(sequences: Sequences, folder: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The training part alone, as (item_index [E'], offsets [U + 1]).

    Users keep their positions, so some may have no events. If there is a `folder`, the items are a mapped file in it.
    """
    offsets = np.concatenate([[0], np.cumsum(count_part(sequences, TRAIN))]).astype(np.int64)
    items, filled = new_array(folder, "training_items", int(offsets[-1]), np.int32), 0
    for piece in pieces_of(sequences.item_index):
        found = sequences.item_index[piece][sequences.part[piece] == TRAIN]
        items[filled : filled + len(found)] = found
        filled += len(found)
    return items, offsets


def even_rows(count: int, size: int) -> np.ndarray:
    """At most `size` of `count` rows, spread evenly. The first rows would be biased: the order of users in a file matters."""
    if size >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, size).round().astype(np.int64)


def held_out_pairs(sequences: Sequences, seed: int = 0) -> np.ndarray:
    """Each user's last training item and first validation item, `[P, 2]`. No stage trains on the second.

    They show whether items that users took one after the other are close in vectors and IDs. If events have no order, one item of
    each part is drawn at random.
    """
    if sequences.ordered:
        trained_U = count_part(sequences, TRAIN)
        first = sequences.offsets[:-1] + trained_U
        asked = (trained_U > 0) & (count_part(sequences, VALID) > 0)
        return np.stack([sequences.item_index[first[asked] - 1], sequences.item_index[first[asked]]], axis=1)
    user_E = np.repeat(np.arange(sequences.user_count), np.diff(sequences.offsets))
    shuffled = np.random.default_rng(seed).permutation(len(user_E))
    event_E = shuffled[np.argsort(user_E[shuffled], kind="stable")]  # shuffles events within each user
    train, valid = (event_E[sequences.part[event_E] == part] for part in (TRAIN, VALID))
    last, first = np.full(sequences.user_count, -1), np.full(sequences.user_count, -1)
    last[user_E[train]] = train  # the last of several writes wins
    first[user_E[valid[::-1]]] = valid[::-1]
    asked = (last >= 0) & (first >= 0)
    return np.stack([sequences.item_index[last[asked]], sequences.item_index[first[asked]]], axis=1)
