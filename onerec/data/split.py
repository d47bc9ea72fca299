"""Which events train, which validate, which test; and the questions that evaluation asks.

Sequences are flat arrays (values and offsets), so a million events are split with a handful of array operations.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

import numpy as np
import polars as pl

from onerec.data import checks
from onerec.data.contract import SPLIT_METHODS, Dataset
from onerec.errors import UserError

TRAIN, VALID, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
ROW = "__row"  # column of the events' rows while they are filtered

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


@dataclass(frozen=True)
class Cases:
    """What evaluation asks: given this history, at which rank does the target come?

    The history of case `c` is `history_items[history_offsets[c]:history_offsets[c + 1]]`, oldest first, never empty.
    """

    user_index: np.ndarray  # C int32, position in Sequences.user_ids
    history_offsets: np.ndarray  # C + 1 int64
    history_items: np.ndarray  # H int32, rows of items.parquet
    target: np.ndarray  # C int32, row of items.parquet
    dropped: int = 0  # cases left out because nothing came before the target
    target_event: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # C int64, place in Sequences

    def __len__(self) -> int:
        return len(self.target)

    def pick(self, rows: np.ndarray) -> "Cases":
        """The cases of these numbers, in their order."""
        lengths = np.diff(self.history_offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.history_offsets[rows] - offsets[:-1], lengths)
        return Cases(
            self.user_index[rows],
            offsets,
            self.history_items[places],
            self.target[rows],
            self.dropped,
            self.target_event[rows] if len(self.target_event) else self.target_event,
        )


def split_sequences(
    dataset: Dataset,
    *,
    method: str | None = None,
    positive: str | None = None,
    fractions: tuple[float, float] = (0.8, 0.1),
    cuts: tuple[Moment, Moment] | None = None,
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
    twice (same user, item and time) counts once.

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
    events = _positive_events(dataset, positive)
    events = _keep_first_of_repeats(events, dataset)
    user_ids, user_code, item_index = _codes(events, dataset)
    order = np.argsort(user_code, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_code, minlength=len(user_ids)))]).astype(np.int64)
    if method == "leave_one_out":
        part = _leave_one_out(offsets)
    elif method == "by_time":
        part = _by_time(events, dataset, fractions, cuts)[order]
    else:
        part = _by_period(events, dataset)[order]
    rows = events[ROW].to_numpy().astype(np.int64)[order]
    return Sequences(user_ids, item_index[order], offsets, part, spec.events.ordered, rows)


def _positive_events(dataset: Dataset, positive: str | None) -> pl.DataFrame:
    if positive is None:
        return dataset.events.with_row_index(ROW)
    signals = dataset.spec.events.signals
    if positive not in signals:
        hint = checks.nearest_name(positive, signals)
        raise UserError(f'{dataset.folder / "dataset.yaml"}: events.signals has no "{positive}"; {hint}')
    events = dataset.events.with_row_index(ROW).filter(pl.col(positive) == 1)
    if events.is_empty():
        raise UserError(f'{dataset.folder / "events.parquet"}, column "{positive}": never 1; choose another signal')
    return events


def _keep_first_of_repeats(events: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """A player that reports one impression twice must not turn the second report into an easy target."""
    columns = dataset.spec.events
    if columns.time is None or columns.play_time is None:  # elsewhere repeats were refused on reading
        return events
    return events.filter(~checks.repeated(columns.user, columns.item, columns.time))


def _codes(events: pl.DataFrame, dataset: Dataset) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """User ids in order of first appearance, each event's user as a position there, each event's item as a row."""
    columns = dataset.spec.events
    user_ids = events[columns.user].unique(maintain_order=True)
    return user_ids, rows_of(events[columns.user], user_ids), rows_of(events[columns.item], items_of(dataset))


def items_of(dataset: Dataset) -> pl.Series:
    """The item ids, in the order of items.parquet."""
    return dataset.items[dataset.spec.items.id]


def rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Position of every id in `known`, int32; -1 for an id that is not there."""
    left = checks.comparable(ids).alias("id").to_frame()
    right = checks.comparable(known).alias("id").to_frame().with_row_index("row")
    rows = left.join(right, on="id", how="left", maintain_order="left")["row"]
    return rows.cast(pl.Int32).fill_null(-1).to_numpy()


def _leave_one_out(offsets: np.ndarray) -> np.ndarray:
    part = np.zeros(offsets[-1], dtype=np.int8)
    ends = offsets[1:][np.diff(offsets) >= 3]
    part[ends - 1] = TEST
    part[ends - 2] = VALID
    return part


def _by_time(
    events: pl.DataFrame, dataset: Dataset, fractions: tuple[float, float], cuts: tuple[Moment, Moment] | None
) -> np.ndarray:
    column = dataset.spec.events.time
    if column is None:
        where = dataset.folder / "dataset.yaml"
        raise UserError(f"{where}: split by_time needs events.time, the column that says it; use leave_one_out")
    valid_start, test_start = cuts if cuts is not None else _quantile_cuts(events[column], fractions)
    kind = events.schema[column]
    place = checks.place(dataset.folder / "events.parquet", column)
    unfit = UserError(
        f"{place}: holds {kind}, the cuts {valid_start} and {test_start} cannot be compared with it; "
        "give both in the column's own unit"
    )
    # polars would compare a datetime with a number of microseconds, which nobody means.
    if any(isinstance(cut, date) != kind.is_temporal() for cut in (valid_start, test_start)):
        raise unfit
    time = pl.col(column)
    part = pl.when(time >= test_start).then(TEST).when(time >= valid_start).then(VALID).otherwise(TRAIN)
    try:
        if valid_start > test_start:  # type: ignore[operator]
            raise UserError(f"{place}: validation must begin before the test, not at {valid_start} after {test_start}")
        return events.select(part.cast(pl.Int8).alias("part"))["part"].to_numpy()
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise unfit from error


def _quantile_cuts(times: pl.Series, fractions: tuple[float, float]) -> tuple[Moment, Moment]:
    """The two moments before which the wished shares of the events lie; equal times always stay together."""
    train, valid = fractions
    if not (train > 0 and valid >= 0 and train + valid < 1):
        raise UserError(
            f"by_time: fractions {fractions} must be shares of training and validation that leave some for test"
        )
    ranked = times.sort(nulls_last=False)
    # Rounding first keeps 0.8 + 0.1 of ten events at nine.
    cuts = [ranked[int(round(share * len(ranked), 6))] for share in (train, train + valid)]
    if cuts[0] is None:
        raise UserError(
            f'column "{times.name}": {times.null_count()} of {len(times)} events have no time, more than the training '
            f"share {train}; give explicit cuts, or use by_period"
        )
    return cuts[0], cuts[1]


def _by_period(events: pl.DataFrame, dataset: Dataset) -> np.ndarray:
    column = dataset.spec.events.period
    if column is None:
        where = dataset.folder / "dataset.yaml"
        raise UserError(f"{where}: split by_period needs events.period, the column that says it; use leave_one_out")
    return events[column].replace_strict(checks.PERIODS, return_dtype=pl.Int8).to_numpy()


def training_sequences(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """The training part alone, as (item_index [E'], offsets [U + 1]). Users keep their position; some may be empty."""
    train = sequences.part == TRAIN
    kept = np.concatenate([[0], np.cumsum(train)])
    return sequences.item_index[train], kept[sequences.offsets].astype(np.int64)


def evaluation_cases(
    sequences: Sequences, part: Literal["valid", "test"], targets_per_user: Literal["first", "all"]
) -> Cases:
    """One case per target in `part`, with everything the user did before it (earlier parts included) as history.

    "first" asks once a user, for the first event of the part; "all" asks for each of them. Targets with nothing before
    them are dropped and counted. Raises UserError when the sequences are sets: "next" has no meaning there.
    """
    if part not in ("valid", "test"):
        raise UserError(f'unknown part "{part}" to evaluate; {checks.nearest_name(part, ["valid", "test"])}')
    if targets_per_user not in ("first", "all"):
        raise UserError(f'unknown targets_per_user "{targets_per_user}"; use first or all')
    if not sequences.ordered:
        raise UserError('events.order is "none": the events of a user are a set, so there is no next item to ask for')
    offsets = sequences.offsets
    user_of_event = np.repeat(np.arange(sequences.user_count), np.diff(offsets))
    targets = np.flatnonzero(sequences.part == PARTS[part])
    if targets_per_user == "first" and len(targets):
        users = user_of_event[targets]
        targets = targets[np.concatenate([[True], users[1:] != users[:-1]])]
    starts = offsets[user_of_event[targets]]
    asked = targets > starts
    dropped = int(len(targets) - asked.sum())
    targets, starts = targets[asked], starts[asked]
    lengths = targets - starts
    history_offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    positions = np.arange(history_offsets[-1]) + np.repeat(starts - history_offsets[:-1], lengths)
    return Cases(
        user_index=user_of_event[targets].astype(np.int32),
        history_offsets=history_offsets,
        history_items=sequences.item_index[positions].astype(np.int32),
        target=sequences.item_index[targets].astype(np.int32),
        dropped=dropped,
        target_event=targets,
    )


def held_out_pairs(sequences: Sequences, seed: int = 0) -> np.ndarray:
    """Every user's last training item and first validation item, rows `[P, 2]`; no training looks at the second.

    They tell whether what people took one after the other stays together in vectors and IDs. Where events are sets without
    order, one of each part is drawn at random.
    """
    user_E = np.repeat(np.arange(sequences.user_count), np.diff(sequences.offsets))
    event_E = np.arange(len(user_E))
    if not sequences.ordered:
        shuffled = np.random.default_rng(seed).permutation(len(user_E))
        event_E = shuffled[np.argsort(user_E[shuffled], kind="stable")]  # users stay in their order, events do not
    train, valid = (event_E[sequences.part[event_E] == part] for part in (TRAIN, VALID))
    last, first = np.full(sequences.user_count, -1), np.full(sequences.user_count, -1)
    last[user_E[train]] = train  # of several writes to one place the last stays
    first[user_E[valid[::-1]]] = valid[::-1]
    asked = (last >= 0) & (first >= 0)
    return np.stack([sequences.item_index[last[asked]], sequences.item_index[first[asked]]], axis=1)
