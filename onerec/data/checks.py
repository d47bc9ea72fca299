"""Checks of tables. Nothing else reads a table before it has passed them.

Each failure names the file, the column and the row, and says what to do. Rows are counted from 1, without the header. The checks
are polars expressions, so a million events take about a second. A log is checked piece by piece.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from onerec.data.event_log import ROW, EventLog
from onerec.errors import UserError

Table = pl.DataFrame | EventLog

PERIODS = {"history": 0, "train": 0, "valid": 1, "test": 2}
"""The values of a `period` column, and the part of the split that each means: 0 training, 1 validation, 2 test."""

SHARED_KEY = "__key"


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known name, or else the known names, twelve at most."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == name.lower()]
    if close:
        return f'did you mean "{close[0]}"?'
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f"there is: {shown}" if names else "there is none"


def place(file: Path, column: str, row: int | None = None) -> str:
    """The start of a message about a table: file, column and, if one row is at fault, its number counted from 1."""
    return f'{file}, column "{column}"' + ("" if row is None else f", row {row}")


def counted(count: int, what: str) -> str:
    """ "1 such row", "3 such rows"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def first_row(table: Table, broken: pl.Expr, user: str | None = None) -> tuple[int, int] | None:
    """The first row (counted from 1) where `broken` is true, and the number of such rows; None if there is none.

    Args:
        table: the rows to search.
        broken: true for the rows that count.
        user: the column of user ids, if `broken` compares rows of the same user.
    """
    columns = list(dict.fromkeys(broken.meta.root_names()))
    parts: Iterable[pl.DataFrame]
    if isinstance(table, pl.DataFrame):
        parts = [table.select(columns).with_row_index(ROW)]
    else:
        parts = table.pieces(columns) if user is None else table.slices_of_users(user, columns)
    first, count = table.height, 0
    for part in parts:
        rows = part[ROW].filter(part.select(broken.fill_null(False).alias("broken"))["broken"])
        if len(rows):
            first, count = min(first, int(rows[0])), count + len(rows)
    return (first + 1, count) if count else None


def refuse_rows(table: Table, file: Path, column: str, broken: pl.Expr, message: str, user: str | None = None) -> None:
    """Raise UserError if `broken` is true in a row; `user` as in `first_row`.

    `message` follows the place. In it, {value} stands for the cell of the first such row, and {rows} for the number of such rows.
    """
    if found := first_row(table, broken, user):
        row, count = found
        said = message.format(value=value_of(table, column, row), rows=counted(count, "such row"))
        raise UserError(f"{place(file, column, row)}: {said}")


def value_of(table: Table, column: str, row: int) -> Any:
    """One cell for a message; rows are counted from 1."""
    return table.value(column, row - 1) if isinstance(table, EventLog) else table[column][row - 1]


def check_column(frame: Table, file: Path, column: str, meaning: str) -> None:
    """Raise UserError unless `column` exists. `meaning` is the key of dataset.yaml, or the flag, that names it."""
    if column not in frame.schema:
        hint = nearest_name(column, frame.schema)
        raise UserError(f'{file}: no column "{column}", but {meaning} names it; {hint}')


def check_not_empty(frame: Table, file: Path) -> None:
    if frame.height == 0:
        raise UserError(f"{file}: the table has no rows; give a file with at least one row")


def check_ids(frame: Table, file: Path, column: str, what: str) -> None:
    """Ids must be integers or strings, and none may be null or empty. `what` is "user" or "item"."""
    kind = frame.schema[column]
    if not (kind.is_integer() or kind == pl.String):
        raise UserError(f"{place(file, column)}: {what} ids must be integers or strings, not {kind}; convert them")
    broken = pl.col(column).is_null()
    if kind == pl.UInt64 and first_row(frame, pl.col(column) > 2**63 - 1):
        raise UserError(
            f"{place(file, column)}: {what} ids of 2^63 and above cannot be integers here; write them as strings"
        )
    if kind == pl.String:
        broken = broken | (pl.col(column).str.strip_chars() == "")
    refuse_rows(frame, file, column, broken, f"the {what} id is empty ({{rows}}); fill it in or remove the row")


def check_unique_ids(frame: pl.DataFrame, file: Path, column: str, what: str) -> None:
    """Each id must stand in one row only."""
    if found := first_row(frame, ~pl.col(column).is_first_distinct()):
        row, count = found
        value = frame[column][row - 1]
        first = first_row(frame, pl.col(column) == value)
        before = first[0] if first else 0
        raise UserError(
            f'{place(file, column, row)}: duplicate {what} id "{value}", already in row {before} '
            f"({counted(count, 'duplicate')} in all); keep one row per {what}"
        )


def comparable(ids: pl.Series) -> pl.Series:
    """Ids for joins: integers as Int64, because files may use different integer types."""
    return ids.cast(pl.Int64) if ids.dtype.is_integer() else ids


def check_known_ids(
    events: Table, events_file: Path, column: str, known: pl.Series, known_file: Path, what: str
) -> None:
    """Every id in `events` must be in `known`, the ids of the other table."""
    kind, known_kind = events.schema[column], known.dtype
    if (kind == pl.String) != (known_kind == pl.String):
        raise UserError(
            f"{place(events_file, column)}: ids are {kind} here and {known_kind} in {known_file}; "
            "write both as integers or both as strings"
        )
    there = comparable(known).alias(SHARED_KEY).to_frame()
    unknown = there[SHARED_KEY].clear()
    log = events if isinstance(events, EventLog) else EventLog(events)
    for piece in log.pieces([column]):
        here = comparable(piece[column]).alias(SHARED_KEY).unique().to_frame()
        unknown = pl.concat([unknown, here.join(there, on=SHARED_KEY, how="anti")[SHARED_KEY]]).unique()
    if unknown.is_empty():
        return
    here_or_there = pl.col(column) if kind == pl.String else pl.col(column).cast(pl.Int64)
    found = first_row(events, here_or_there.is_in(unknown.implode()))
    assert found is not None
    row, count = found
    raise UserError(
        f'{place(events_file, column, row)}: {what} "{value_of(events, column, row)}" is unknown: {known_file} has no such row '
        f"({counted(len(unknown), f'unknown {what}')} in {counted(count, 'event')}); "
        f"add the {what}s there or remove these events"
    )


def check_time_type(events: Table, file: Path, column: str) -> None:
    kind = events.schema[column]
    if not (kind.is_numeric() or kind in (pl.Date, pl.Datetime)):
        raise UserError(
            f"{place(file, column)}: times must be numbers (seconds or milliseconds) or datetimes, not {kind}; "
            "convert them, for example with `onerec data import`"
        )
    if kind.is_float():
        message = "the time is not a finite number; correct it or remove the row"
        refuse_rows(events, file, column, ~pl.col(column).is_finite(), message)


def backwards(user: str, time: str) -> pl.Expr:
    """True if the time is smaller than in the user's previous row, or missing although that row has one."""
    before = pl.col(time).shift(1).over(user)
    return (pl.col(time) < before) | (pl.col(time).is_null() & before.is_not_null())


def check_time_order(events: Table, file: Path, user: str, time: str) -> None:
    """A user's times must never fall. Nulls may only come before the user's first known time."""
    if not (found := first_row(events, backwards(user, time), user)):
        return
    row, count = found
    who, when = value_of(events, user, row), value_of(events, time, row)
    if when is None:
        problem = "the time is missing although an earlier event of the same user has one; only a user's first times may be empty"
    else:
        problem = f"time runs backwards: {when} comes after a later event of the same user"
    raise UserError(
        f'{place(file, time, row)}: {problem} (user "{who}", {counted(count, "such row")}); '
        "sort the events by user and time"
    )


def repeated(user: str, item: str, time: str) -> pl.Expr:
    """True if an earlier row has the same user, item and time. Rows without a time never count."""
    return pl.col(time).is_not_null() & ~pl.struct(user, item, time).is_first_distinct()


def check_repeats(events: Table, file: Path, user: str, item: str, time: str) -> None:
    """No two events may have the same user, item and time."""
    if found := first_row(events, repeated(user, item, time), user):
        row, count = found
        raise UserError(
            f'{place(file, item, row)}: duplicated row: an earlier row has the same time, user "{value_of(events, user, row)}" '
            f'and item "{value_of(events, item, row)}" '
            f"({counted(count, 'duplicate')} in all); remove them, for example with `onerec data import --drop-duplicates`"
        )


def check_periods(events: Table, file: Path, user: str, column: str, ordered: bool) -> None:
    """Periods must be keys of PERIODS. In ordered data, a user's periods must never fall."""
    if events.schema[column] != pl.String:
        raise UserError(f"{place(file, column)}: periods must be strings, not {events.schema[column]}; convert them")
    unknown = ~pl.col(column).is_in(list(PERIODS)) | pl.col(column).is_null()
    refuse_rows(events, file, column, unknown, f'unknown period "{{value}}" ({{rows}}); use {", ".join(PERIODS)}')
    if ordered:
        part = pl.col(column).replace_strict(PERIODS, return_dtype=pl.Int8)
        message = 'period "{value}" comes after a later period of the same user; sort the events by user and time'
        refuse_rows(events, file, column, part < part.shift(1).over(user), message, user)


def check_signal(events: Table, file: Path, column: str) -> None:
    """Signals must be 0, 1 or null, which means not recorded."""
    kind = events.schema[column]
    if kind == pl.Boolean:
        return
    if not kind.is_numeric():
        raise UserError(f"{place(file, column)}: signals must be 0 or 1, not {kind}; convert them")
    message = "a signal is 0 or 1 (or empty if unknown), not {value} ({rows}); correct it, or remove the column from the signals"
    refuse_rows(events, file, column, (pl.col(column) != 0) & (pl.col(column) != 1), message)


def check_numeric(frame: Table, file: Path, column: str) -> None:
    kind = frame.schema[column]
    if not kind.is_numeric():
        raise UserError(
            f"{place(file, column)}: must hold numbers, not {kind}; convert them, or do not list the column as numeric"
        )
    if kind.is_float():
        message = "not a finite number; leave the cell empty if it is unknown"
        refuse_rows(frame, file, column, ~pl.col(column).is_finite(), message)


def check_text(frame: pl.DataFrame, file: Path, column: str) -> None:
    if frame.schema[column] != pl.String:
        raise UserError(f"{place(file, column)}: text must be strings, not {frame.schema[column]}; convert them")


def check_categorical(frame: pl.DataFrame, file: Path, column: str) -> None:
    """Categories must be strings, numbers or booleans. A string may hold several values, separated by spaces or commas."""
    kind = frame.schema[column]
    if kind.is_nested() or kind.is_temporal() or kind == pl.Binary:
        raise UserError(
            f"{place(file, column)}: categories must be strings, numbers or booleans, not {kind}; "
            "join lists with spaces"
        )


def read_vectors(path: Path) -> np.ndarray:
    """Item vectors `[N, D]` from a .npy file, or from a .safetensors file with a single tensor.

    Raises:
        UserError: the file is missing or broken, or holds anything but one matrix of numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing, though dataset.yaml names it under items.vectors; add it or remove the name")
    try:
        if path.suffix == ".npy":
            vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            tensors = load_file(path)
            if len(tensors) != 1:
                raise UserError(f"{path}: holds {len(tensors)} tensors ({', '.join(tensors)}); write exactly one")
            vectors = next(iter(tensors.values()))
        else:
            raise UserError(f'{path}: vectors are read from .npy or .safetensors, not from "{path.suffix}"')
    except UserError:
        raise
    except Exception as error:  # numpy and safetensors raise many types for a broken file
        raise UserError(f"{path}: cannot be read as vectors ({error}); write the file again") from error
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        raise UserError(
            f"{path}: holds {vectors.dtype} of shape {vectors.shape}; vectors need two dimensions, items by width"
        )
    return vectors


def check_vectors(path: Path, item_count: int) -> None:
    """The file must hold one finite vector per row of items.parquet."""
    vectors = read_vectors(path)
    if len(vectors) != item_count:
        raise UserError(
            f"{path}: {len(vectors)} rows for {item_count} items; write one row per row of items.parquet, in its order"
        )
    step = max(1, 4_000_000 // max(1, vectors.shape[1]))
    for start in range(0, item_count, step):
        finite = np.isfinite(vectors[start : start + step]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite)) + 1
            raise UserError(f"{path}, row {row}: the vector holds NaN or infinity; compute it again")
