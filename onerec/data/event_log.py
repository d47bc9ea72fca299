"""The table of events, read a piece at a time: a log may be far larger than memory.

Whatever looks at events asks for pieces of a few columns. Two ways of cutting are enough: runs of rows for what a row says by
itself, and slices of whole users for what must be compared within a user.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from onerec.errors import UserError

T = TypeVar("T", pl.DataFrame, pl.LazyFrame)

PIECE_ROWS = 1 << 21  # rows in memory at a time; a few columns of them take some tens of MiB
ROW = "__row"  # each row's place in the file, counted from 0


class EventLog:
    """Rows of a Parquet file, or of a table that is in memory anyway.

    Args:
        table: the events.
        file: where they come from, for messages; None for a table that was never a file.

    Attributes:
        schema: names and types of the columns; dictionary-encoded strings count, and are read, as plain strings.
        height: number of rows.
    """

    def __init__(self, table: pl.DataFrame | pl.LazyFrame, file: Path | None = None) -> None:
        self._file = file
        self._table = plain_strings(table.lazy())
        self.schema = self._table.collect_schema()
        self.height = int(self._collect(table.lazy().select(pl.len())).item())

    @classmethod
    def of_file(cls, path: Path) -> "EventLog":
        """The log in a Parquet file, of which nothing but the footer is read yet.

        Raises:
            UserError: it is missing, or no Parquet file. What is broken further inside is found when it is read.
        """
        if not path.is_file():
            raise missing_file(path)
        try:
            return cls(pl.scan_parquet(path, glob=False), path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise broken_file(path, error) from error

    def pieces(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """All rows in their order, `PIECE_ROWS` at a time; beside `columns` the column ROW."""
        table = self._table.select(columns).with_row_index(ROW)
        for start in range(0, self.height, PIECE_ROWS):
            yield self._collect(table.slice(start, PIECE_ROWS))

    def slices_of_users(self, user: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Whole users, about `PIECE_ROWS` rows at a time, rows in their order; beside `columns` the column ROW.

        Users are dealt to slices by a hash of the column `user`. Each slice reads the columns in full, so the time grows with
        the square of a long log, while memory stays as it is.
        """
        table = self._table.select(list(dict.fromkeys([user, *columns]))).with_row_index(ROW)
        count = -(-self.height // PIECE_ROWS)
        for number in range(count):
            mine = table if count == 1 else table.filter(pl.col(user).hash(0) % count == number)
            yield self._collect(mine).select(ROW, *columns)

    def value(self, column: str, row: int) -> Any:
        """One cell; rows counted from 0."""
        return self._collect(self._table.select(column).slice(row, 1)).item()

    def count_different(self, column: str) -> int:
        """How many different values a column has, null counted as one."""
        return int(self._collect(self._table.select(pl.col(column).n_unique())).item())

    def whole(self) -> pl.DataFrame:
        """The table in memory, for what cannot do with less."""
        return self._collect(self._table)

    def _collect(self, table: pl.LazyFrame) -> pl.DataFrame:
        try:
            return table.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            if self._file is None:
                raise
            raise broken_file(self._file, error) from error


def plain_strings(table: T) -> T:
    """Dictionary-encoded strings become plain strings, so that every later check knows one kind of string."""
    return table.with_columns(
        pl.col(name).cast(pl.String)
        for name, kind in table.collect_schema().items()
        if kind in (pl.Categorical, pl.Enum)
    )


def missing_file(path: Path) -> UserError:
    return UserError(f"{path}: missing; a dataset folder needs this file (see docs/data.md)")


def broken_file(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: broken, or not a Parquet file ({reason}); write it again")
