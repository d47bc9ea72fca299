"""The checks every table passes before anything else sees it; each failure names file, column, row and the way out.

Rows are counted from 1 and a table's header is not counted. Polars expressions do the looking, so a million events take
about a second, and a log is looked through piece by piece.
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
"""What a `period` column may say, and the part of the split it means: 0 training, 1 validation, 2 test."""

SHARED_KEY = "__key"


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known one, or the list of what there is (at most twelve names)."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == name.lower()]
    if close:
        return f'did you mean "{close[0]}"?'
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f"there is: {shown}" if names else "there is none"


def place(file: Path, column: str, row: int | None = None) -> str:
    """The start of every message about a table: file, column and, where one is at fault, the row counted from 1."""
    return f'{file}, column "{column}"' + ("" if row is None else f", row {row}")


def counted(count: int, what: str) -> str:
    """ "1 such row", "3 such rows"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def first_row(table: Table, broken: pl.Expr, user: str | None = None) -> tuple[int, int] | None:
    """The first row (counted from 1) where `broken` is true, and how many there are; None when there is none.

    Args:
        table: where to look.
        broken: says it of every row.
        user: where rows are compared with others of the same user, the column that says whose they are.
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


def value_of(table: Table, column: str, row: int) -> Any:
    """The cell that a message shows; rows counted from 1."""
    return table.value(column, row - 1) if isinstance(table, EventLog) else table[column][row - 1]


def check_column(frame: Table, file: Path, column: str, meaning: str) -> None:
    """`column` must exist; `meaning` is the key of dataset.yaml (or the flag) that asks for it."""
    if column not in frame.schema:
        hint = nearest_name(column, frame.schema)
        raise UserError(f'{file}: no column "{column}", which {meaning} asks for; {hint}')


def check_not_empty(frame: Table, file: Path) -> None:
    if frame.height == 0:
        raise UserError(f"{file}: the table has no rows; give a file with at least one")


def check_ids(frame: Table, file: Path, column: str, what: str) -> None:
    """Ids are integers or strings; none may be null or empty. `what` is "user" or "item"."""
    kind = frame.schema[column]
    if not (kind.is_integer() or kind == pl.String):
        raise UserError(
            f"{place(file, column)}: {what} ids must be integers or strings, these are {kind}; convert them"
        )
    broken = pl.col(column).is_null()
    if kind == pl.UInt64 and first_row(frame, pl.col(column) > 2**63 - 1):
        raise UserError(
            f"{place(file, column)}: {what} ids beyond 2^63 are not read as integers; write them as strings"
        )
    if kind == pl.String:
        broken = broken | (pl.col(column).str.strip_chars() == "")
    if found := first_row(frame, broken):
        row, count = found
        raise UserError(
            f"{place(file, column, row)}: the {what} id is empty ({counted(count, 'such row')}); "
            "fill it in or remove the row"
        )


def check_unique_ids(frame: pl.DataFrame, file: Path, column: str, what: str) -> None:
    """One row per item (or user)."""
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
    """Integer ids become Int64, so that Int32 in one file joins with Int64 in another."""
    return ids.cast(pl.Int64) if ids.dtype.is_integer() else ids


def check_known_ids(
    events: Table, events_file: Path, column: str, known: pl.Series, known_file: Path, what: str
) -> None:
    """Every id in `events` must stand in the other table (`known`)."""
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
        f'{place(events_file, column, row)}: {what} "{value_of(events, column, row)}" is unknown, {known_file} has no such row '
        f"({counted(len(unknown), f'unknown {what}')} in {counted(count, 'event')}); "
        f"add the {what}s there or remove these events"
    )


def check_time_type(events: Table, file: Path, column: str) -> None:
    kind = events.schema[column]
    if not (kind.is_numeric() or kind in (pl.Date, pl.Datetime)):
        raise UserError(
            f"{place(file, column)}: times must be numbers (seconds or milliseconds) or datetimes, these are {kind}; "
            "convert them, or let `onerec data import` do it"
        )
    if kind.is_float() and (found := first_row(events, ~pl.col(column).is_finite())):
        raise UserError(
            f"{place(file, column, found[0])}: the time is not a finite number; correct it or remove the row"
        )


def backwards(user: str, time: str) -> pl.Expr:
    """True where a user's time is smaller than in their row before, or missing after a row that had one."""
    before = pl.col(time).shift(1).over(user)
    return (pl.col(time) < before) | (pl.col(time).is_null() & before.is_not_null())


def check_time_order(events: Table, file: Path, user: str, time: str) -> None:
    """Within a user, time never runs backwards. Nulls are allowed only before the first known time."""
    if not (found := first_row(events, backwards(user, time), user)):
        return
    row, count = found
    who, when = value_of(events, user, row), value_of(events, time, row)
    if when is None:
        problem = "the time is missing although an earlier event of the same user has one; nulls may only come first"
    else:
        problem = f"time runs backwards, {when} comes after a later event of the same user"
    raise UserError(
        f'{place(file, time, row)}: {problem} (user "{who}", {counted(count, "such row")}); '
        "sort the events by user and time"
    )


def repeated(user: str, item: str, time: str) -> pl.Expr:
    """True where the same user, item and (known) time stood in an earlier row."""
    return pl.col(time).is_not_null() & ~pl.struct(user, item, time).is_first_distinct()


def check_repeats(events: Table, file: Path, user: str, item: str, time: str) -> None:
    """No two events with the same user, item and time."""
    if found := first_row(events, repeated(user, item, time), user):
        row, count = found
        raise UserError(
            f'{place(file, item, row)}: duplicated row, user "{value_of(events, user, row)}" and item '
            f'"{value_of(events, item, row)}" at the same time stand in an earlier row '
            f"({counted(count, 'duplicate')} in all); remove them (`onerec data import` does it with --drop-duplicates)"
        )


def check_periods(events: Table, file: Path, user: str, column: str, ordered: bool) -> None:
    """A period is one of PERIODS, and in ordered data a user's periods follow each other."""
    if events.schema[column] != pl.String:
        raise UserError(f"{place(file, column)}: periods must be strings, these are {events.schema[column]}")
    known = list(PERIODS)
    if found := first_row(events, ~pl.col(column).is_in(known) | pl.col(column).is_null()):
        row, count = found
        raise UserError(
            f'{place(file, column, row)}: unknown period "{value_of(events, column, row)}" ({counted(count, "such row")}); '
            f"use {', '.join(known)}"
        )
    if not ordered:
        return
    part = pl.col(column).replace_strict(PERIODS, return_dtype=pl.Int8)
    if found := first_row(events, part < part.shift(1).over(user), user):
        raise UserError(
            f'{place(file, column, found[0])}: period "{value_of(events, column, found[0])}" comes after a later period '
            "of the same user; sort the events by user and time"
        )


def check_signal(events: Table, file: Path, column: str) -> None:
    """Signals are 0, 1 or null (not recorded)."""
    kind = events.schema[column]
    if kind == pl.Boolean:
        return
    if not kind.is_numeric():
        raise UserError(f"{place(file, column)}: signals must be 0 or 1, these are {kind}; convert them")
    if found := first_row(events, (pl.col(column) != 0) & (pl.col(column) != 1)):
        row, count = found
        raise UserError(
            f"{place(file, column, row)}: a signal is 0 or 1 (or empty where unknown), not {value_of(events, column, row)} "
            f"({counted(count, 'such row')}); correct it, or leave the column out of the signals"
        )


def check_numeric(frame: Table, file: Path, column: str) -> None:
    kind = frame.schema[column]
    if not kind.is_numeric():
        raise UserError(
            f"{place(file, column)}: must hold numbers, these are {kind}; convert them or name the column elsewhere"
        )
    if kind.is_float() and (found := first_row(frame, ~pl.col(column).is_finite())):
        raise UserError(f"{place(file, column, found[0])}: not a finite number; leave it empty where it is unknown")


def check_text(frame: pl.DataFrame, file: Path, column: str) -> None:
    if frame.schema[column] != pl.String:
        raise UserError(f"{place(file, column)}: text must be strings, these are {frame.schema[column]}; convert them")


def check_categorical(frame: pl.DataFrame, file: Path, column: str) -> None:
    """Categories are plain values: strings (several ids joined by spaces or commas), numbers or booleans."""
    kind = frame.schema[column]
    if kind.is_nested() or kind.is_temporal() or kind == pl.Binary:
        raise UserError(
            f"{place(file, column)}: categories must be strings, numbers or booleans, these are {kind}; "
            "join lists with spaces"
        )


def read_vectors(path: Path) -> np.ndarray:
    """Given item vectors, [N, D], from a .npy file or from the only tensor of a .safetensors file.

    Raises UserError when the file is missing, broken, or holds something else than one matrix of numbers.
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
    except Exception as error:  # numpy and safetensors raise many kinds, all of which mean a broken file
        raise UserError(f"{path}: cannot be read as vectors ({error}); write the file again") from error
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        raise UserError(
            f"{path}: shape {vectors.shape} of {vectors.dtype}; vectors need two dimensions, items by width"
        )
    return vectors


def check_vectors(path: Path, item_count: int) -> None:
    """One finite vector per row of items.parquet."""
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
