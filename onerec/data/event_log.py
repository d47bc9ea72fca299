"""The table of events, read piece by piece, because a log may be far larger than memory.

Readers ask for pieces of a few columns. There are two kinds of pieces: consecutive rows, and slices of whole users for
comparisons within a user.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from onerec.errors import UserError

T = TypeVar("T", pl.DataFrame, pl.LazyFrame)

PIECE_ROWS = 1 << 21  # rows in memory at a time; a few columns take some tens of MiB
ROW = "__row"  # column with each row's number in the file, counted from 0


class EventLog:
    """Events from a Parquet file or from a table in memory.

    Args:
        table: the events.
        file: the file of the events, for messages; None for a table in memory.

    Attributes:
        schema: names and types of the columns. Dictionary-encoded strings become plain strings.
        height: number of rows.
    """

    def __init__(self, table: pl.DataFrame | pl.LazyFrame, file: Path | None = None) -> None:
        self._file = file
        self._table = plain_strings(table.lazy())
        self.schema = self._table.collect_schema()
        self.height = int(self._collect(table.lazy().select(pl.len())).item())

    @classmethod
    def of_file(cls, path: Path) -> "EventLog":
        """The log in a Parquet file. Only the footer is read at first.

        Raises:
            UserError: the file is missing or not Parquet. Damage inside the file is found when the rows are read.
        """
        if not path.is_file():
            raise missing_file(path)
        try:
            return cls(pl.scan_parquet(path, glob=False), path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise broken_file(path, error) from error

    def pieces(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """All rows in order, `PIECE_ROWS` at a time, with the column ROW and `columns`."""
        table = self._table.select(columns).with_row_index(ROW)
        for start in range(0, self.height, PIECE_ROWS):
            yield self._collect(table.slice(start, PIECE_ROWS))

    def slices_of_users(self, user: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """All rows of some users at a time, about `PIECE_ROWS` rows in order, with the column ROW and `columns`.

        A hash of the column `user` assigns users to slices. Every slice scans the whole columns, so time grows with the square of
        the log's length while memory stays constant.
        """
        table = self._table.select(list(dict.fromkeys([user, *columns]))).with_row_index(ROW)
        count = -(-self.height // PIECE_ROWS)
        for number in range(count):
            mine = table if count == 1 else table.filter(pl.col(user).hash(0) % count == number)
            yield self._collect(mine).select(ROW, *columns)

    def value(self, column: str, row: int) -> Any:
        """One cell; rows are counted from 0."""
        return self._collect(self._table.select(column).slice(row, 1)).item()

    def count_different(self, column: str) -> int:
        """Number of distinct values in a column. Null counts as a value."""
        return int(self._collect(self._table.select(pl.col(column).n_unique())).item())

    def whole(self) -> pl.DataFrame:
        """The whole table in memory, for callers that cannot work piece by piece."""
        return self._collect(self._table)

    def _collect(self, table: pl.LazyFrame) -> pl.DataFrame:
        try:
            return table.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            if self._file is None:
                raise
            raise broken_file(self._file, error) from error


def plain_strings(table: T) -> T:
    """Turn dictionary-encoded strings into plain strings, so that later code handles one type only."""
    return table.with_columns(
        pl.col(name).cast(pl.String)
        for name, kind in table.collect_schema().items()
        if kind in (pl.Categorical, pl.Enum)
    )


def missing_file(path: Path) -> UserError:
    return UserError(f"{path}: missing; a dataset folder needs this file (see docs/data.md)")


def short_reason(error: Exception) -> str:
    """The message of another library's error on one line, of 200 characters at most."""
    return " ".join(str(error).split())[:200]


def broken_file(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: broken, or not a Parquet file ({short_reason(error)}); write the file again")
