"""Which events train, which validate and which test.

Sequences are flat arrays (values and offsets) that may be maps of files. Events are read and put into their places a piece at a
time, so memory grows with users and items but not with the log.
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

    Events of user `u` are `item_index[offsets[u]:offsets[u + 1]]`. Users stand in the order of their first event in the
    file; a user without any event (after the filter on `positive`) is absent.
    """

    user_ids: pl.Series  # U, as in the dataset
    item_index: np.ndarray  # E int32, row of items.parquet
    offsets: np.ndarray  # U + 1 int64
    part: np.ndarray  # E int8: 0 training, 1 validation, 2 test; never falls within a user
    ordered: bool = True  # False: the events of a user are a set, their order means nothing
    event_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # E int64, row of events.parquet

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
    """Sort events into users and parts.

    `method` is the dataset's own split unless named here:
    - `leave_one_out`: a user's last event tests, the last but one validates, the rest trains; users with fewer than
      three events only train.
    - `by_time`: everyone is cut at the same two moments. `cuts` are those moments (validation begins, test begins), in
      the unit of the time column. Without them the moments are chosen so that the first of `fractions` of all events
      trains, the second validates and what remains tests. Events without a time are older than all others.
    - `by_period`: the period column says it.

    `positive` names a signal; only events where it is 1 are kept, as history and as targets. An event that was logged
    twice (same user, item and time) counts once. With a `folder` the arrays are files there, mapped into memory.

    Raises UserError for unknown methods and signals, cuts that do not fit, and for order-dependent splits of sets.
    """
    spec = dataset.spec
    method = method or spec.split
    if method not in SPLIT_METHODS:
        raise UserError(f'unknown split "{method}"; {checks.nearest_name(method, SPLIT_METHODS)}')
    where = dataset.folder / "dataset.yaml"
    if not spec.events.ordered and method != "by_period":
        raise UserError(
            f'{where}: events.order is "none", a user\'s events are a set; split {method} needs an order, use by_period'
        )
    chosen = _choose_events(dataset, positive)
    user_ids, counts_U = _count_users(chosen)
    offsets = np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int64)
    if not offsets[-1]:
        raise UserError(f'{dataset.folder / "events.parquet"}, column "{positive}": never 1; choose another signal')
    said = None
    if method == "by_time":
        said = _by_time(chosen, fractions, cuts)
    elif method == "by_period":
        said = _by_period(dataset)
    arrays = [
        new_array(folder, name, int(offsets[-1]), dtype)
        for name, dtype in (("item_index", np.int32), ("part", np.int8), ("event_rows", np.int64))
    ]
    _place_events(chosen, user_ids, offsets, said, *arrays)
    item_index, part, event_rows = arrays
    if said is None:
        _leave_one_out(offsets, part)
    return Sequences(user_ids, item_index, offsets, part, spec.events.ordered, event_rows)


@dataclass(frozen=True)
class _Chosen:
    """The events that count: with the positive signal, where one is asked for, and of reports of one impression the first."""

    dataset: Dataset
    positive: str | None
    first_report_E: np.ndarray | None  # of every row of the log; None where no impression is reported twice

    def pieces(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Their `columns` and ROW, in the order of the log, a piece at a time."""
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
    if columns.time is None or columns.play_time is None:  # there repeats were refused on reading
        return _Chosen(dataset, positive, None)
    # A player that reports one impression twice must not turn the second report into an easy target.
    first_report_E = np.ones(dataset.log.height, dtype=bool)
    key = [columns.user, columns.item, columns.time]
    for part in dataset.log.slices_of_users(columns.user, key if positive is None else [*key, positive]):
        if positive is not None:
            part = part.filter(pl.col(positive) == 1)
        first_report_E[part.filter(checks.repeated(*key))[ROW].to_numpy()] = False
    return _Chosen(dataset, positive, first_report_E)


def _count_users(chosen: _Chosen) -> tuple[pl.Series, np.ndarray]:
    """User ids in order of first appearance, and how many events each has."""
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
    said: pl.Expr | None,
    item_index: np.ndarray,
    part: np.ndarray,
    event_rows: np.ndarray,
) -> None:
    """Fill the arrays of `Sequences`: every event goes behind the events that its user had before.

    `said` tells the part from an event's own columns; without it the parts are left as they are.
    """
    columns, item_ids = chosen.dataset.spec.events, items_of(chosen.dataset)
    free_U = offsets[:-1].copy()
    more = [] if said is None else said.meta.root_names()
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
        if said is not None:
            part[places] = piece.select(said.alias("part"))["part"].to_numpy()[order]


def items_of(dataset: Dataset) -> pl.Series:
    """The item ids, in the order of items.parquet."""
    return dataset.items[dataset.spec.items.id]


def rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Position of every id in `known`, int32; -1 for an id that is not there."""
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
        raise UserError(f"{where}: split by_time needs events.time, the column that says it; use leave_one_out")
    valid_start, test_start = cuts if cuts is not None else _quantile_cuts(chosen, column, fractions)
    kind = dataset.log.schema[column]
    place = checks.place(dataset.folder / "events.parquet", column)
    unfit = UserError(
        f"{place}: holds {kind}, the cuts {valid_start} and {test_start} cannot be compared with it; "
        "give both in the column's own unit"
    )
    # polars would compare a datetime with a number of microseconds, which nobody means.
    if any(isinstance(cut, date) != kind.is_temporal() for cut in (valid_start, test_start)):
        raise unfit
    time = pl.col(column)
    part = pl.when(time >= test_start).then(TEST).when(time >= valid_start).then(VALID).otherwise(TRAIN).cast(pl.Int8)
    try:
        if valid_start > test_start:  # type: ignore[operator]
            raise UserError(f"{place}: validation must begin before the test, not at {valid_start} after {test_start}")
        pl.DataFrame(schema={column: kind}).select(part)  # refuses what cannot be compared
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise unfit from error
    return part


def _quantile_cuts(chosen: _Chosen, column: str, fractions: tuple[float, float]) -> tuple[Moment, Moment]:
    """The two moments before which the wished shares of the events lie; equal times always stay together."""
    train, valid = fractions
    if not (train > 0 and valid >= 0 and train + valid < 1):
        raise UserError(
            f"by_time: fractions {fractions} must be shares of training and validation that leave some for test"
        )
    counts = [(piece.height, piece[column].null_count()) for piece in chosen.pieces([column])]
    events, unknown = (sum(count) for count in zip(*counts, strict=True))
    # Rounding first keeps 0.8 + 0.1 of ten events at nine. Events without a time come first.
    ranks = [int(round(share * events, 6)) - unknown for share in (train, train + valid)]
    if ranks[0] < 0:
        raise UserError(
            f'column "{column}": {unknown} of {events} events have no time, more than the training '
            f"share {train}; give explicit cuts, or use by_period"
        )
    first, second = values_at_ranks(lambda: (piece[column] for piece in chosen.pieces([column])), ranks)
    return first, second


def _by_period(dataset: Dataset) -> pl.Expr:
    column = dataset.spec.events.period
    if column is None:
        where = dataset.folder / "dataset.yaml"
        raise UserError(f"{where}: split by_period needs events.period, the column that says it; use leave_one_out")
    return pl.col(column).replace_strict(checks.PERIODS, return_dtype=pl.Int8)


def places_of_part(sequences: Sequences, part: int) -> Iterator[np.ndarray]:
    """Where the events of a part stand, a piece of the sequences at a time."""
    for piece in pieces_of(sequences.part):
        yield np.flatnonzero(sequences.part[piece] == part) + piece.start


def count_part(sequences: Sequences, part: int) -> np.ndarray:
    """How many events of a part every user has, int64 `[U]`."""
    counts_U = np.zeros(sequences.user_count, dtype=np.int64)
    for places in places_of_part(sequences, part):
        users = np.searchsorted(sequences.offsets, places, side="right") - 1
        if len(users):
            counts_U[users[0] : users[-1] + 1] += np.bincount(users - users[0])
    return counts_U


def training_sequences(sequences: Sequences, folder: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The training part alone, as (item_index [E'], offsets [U + 1]). Users keep their position; some may be empty.

    With a `folder` the items are a file there, mapped into memory.
    """
    offsets = np.concatenate([[0], np.cumsum(count_part(sequences, TRAIN))]).astype(np.int64)
    items, filled = new_array(folder, "training_items", int(offsets[-1]), np.int32), 0
    for piece in pieces_of(sequences.item_index):
        found = sequences.item_index[piece][sequences.part[piece] == TRAIN]
        items[filled : filled + len(found)] = found
        filled += len(found)
    return items, offsets


def even_rows(count: int, size: int) -> np.ndarray:
    """At most `size` of `count` rows, spread evenly: users stand in a file in an order that matters."""
    if size >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, size).round().astype(np.int64)


def held_out_pairs(sequences: Sequences, seed: int = 0) -> np.ndarray:
    """Every user's last training item and first validation item, rows `[P, 2]`; no training looks at the second.

    They tell whether what people took one after the other stays together in vectors and IDs. Where events are sets without
    order, one of each part is drawn at random.
    """
    if sequences.ordered:
        trained_U = count_part(sequences, TRAIN)
        first = sequences.offsets[:-1] + trained_U
        asked = (trained_U > 0) & (count_part(sequences, VALID) > 0)
        return np.stack([sequences.item_index[first[asked] - 1], sequences.item_index[first[asked]]], axis=1)
    user_E = np.repeat(np.arange(sequences.user_count), np.diff(sequences.offsets))
    shuffled = np.random.default_rng(seed).permutation(len(user_E))
    event_E = shuffled[np.argsort(user_E[shuffled], kind="stable")]  # users stay in their order, events do not
    train, valid = (event_E[sequences.part[event_E] == part] for part in (TRAIN, VALID))
    last, first = np.full(sequences.user_count, -1), np.full(sequences.user_count, -1)
    last[user_E[train]] = train  # of several writes to one place the last stays
    first[user_E[valid[::-1]]] = valid[::-1]
    asked = (last >= 0) & (first >= 0)
    return np.stack([sequences.item_index[last[asked]], sequences.item_index[first[asked]]], axis=1)
