"""Reads a user's own table, CSV, TSV, Parquet or JSON lines, and explains what is wrong with it.

CSV columns are read as strings, so that later conversions can name the row that fails. Messages count rows from 1, without the
header. For text files, they also name the line of the file.
"""

import gzip
from pathlib import Path

import polars as pl

from onerec.data.checks import check_not_empty, counted, first_row, place, refuse_rows
from onerec.data.event_log import plain_strings, short_reason
from onerec.errors import UserError

CSV_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
JSON_SUFFIXES = (".jsonl", ".ndjson")
TIME_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def read_table(path: Path) -> pl.DataFrame:
    """A whole table with at least one row. Raises UserError for a missing, empty, damaged or non-UTF-8 file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give a table with a header and at least one row")
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in CSV_SUFFIXES:
        frame = _read_csv(path)
    elif suffix in JSON_SUFFIXES:
        frame = _read_json_lines(path)
    elif suffix in (".parquet", ".pq"):
        frame = _read_parquet(path)
    else:
        raise UserError(f'{path}: "{suffix}" files are not supported; give .csv, .tsv, .jsonl or .parquet')
    check_not_empty(frame, path)
    return plain_strings(frame)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: broken, or not a Parquet file ({short_reason(error)}); write it again") from error


def _read_csv(path: Path) -> pl.DataFrame:
    lines = _lines(path)
    if lines.is_empty() or not lines["line"][0].strip("\ufeff \t"):
        raise UserError(f"{path}, line 1: no header; the first line must name the columns")
    header = lines["line"][0].lstrip("\ufeff")
    separator = "\t" if ".tsv" in path.suffixes else max(",;\t|", key=header.count)
    trailing = _check_widths(path, lines, separator)
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: damaged CSV ({short_reason(error)}); look for an unclosed quote") from error
    for name in frame.columns:
        if "_duplicated_" in name and name not in header:
            raise UserError(f'{path}: two columns are called "{name.split("_duplicated_")[0]}"; rename one')
    return frame.head(frame.height - trailing) if trailing else frame


def _lines(path: Path) -> pl.DataFrame:
    try:
        return pl.read_lines(path, name="line", glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        if (line := _first_undecodable_line(path)) is not None:
            raise UserError(
                f"{path}, line {line}: not UTF-8; convert the file, for example with "
                f"`iconv -f latin1 -t utf-8 {path.name} > fixed.csv`"
            ) from error
        raise UserError(f"{path}: cannot be read ({short_reason(error)}); write it again") from error


def _first_undecodable_line(path: Path) -> int | None:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content[: error.start].count(b"\n") + 1
    except (OSError, EOFError):
        return None
    return None


def _check_widths(path: Path, lines: pl.DataFrame, separator: str) -> int:
    """Check that every line has as many fields as the header, and return the number of blank lines at the end.

    Polars fills short rows silently, hence this check. If a quoted field spans several lines, lines are not rows, and only the
    checks of polars apply.
    """
    line = pl.col("line")
    if lines.select((line.str.count_matches('"', literal=True) % 2 == 1).any()).item():
        return 0
    fields = line.str.replace_all(r'"[^"]*"', "").str.count_matches(separator, literal=True) + 1
    widths = lines.select((line.str.strip_chars() == "").alias("blank"), fields.alias("fields"))
    last = widths.with_row_index("at").filter(~pl.col("blank"))["at"].max()
    assert isinstance(last, int)  # the header is not blank
    expected = widths["fields"][0]
    # In a table with one column, a blank line is an empty value.
    damaged = pl.col("fields") != expected if expected == 1 else (pl.col("fields") != expected) | pl.col("blank")
    if found := first_row(widths.head(last + 1), damaged):
        number, count = found
        fields_here = 0 if widths["blank"][number - 1] else widths["fields"][number - 1]
        raise UserError(
            f"{path}, row {number - 1} (line {number}): {fields_here} fields, but the header has {expected} "
            f"({counted(count, 'such row')}); complete the row, or quote fields that contain {separator!r}"
        )
    return 0 if expected == 1 else lines.height - last - 1


def _read_json_lines(path: Path) -> pl.DataFrame:
    lines = _lines(path)
    text = pl.col("line").str.strip_chars()
    last = lines.with_row_index("at").filter(text != "")["at"].max()
    if not isinstance(last, int):
        raise UserError(f"{path}: the file is empty; give at least one JSON object")
    whole = text.str.json_path_match("$").is_null() | ~text.str.starts_with("{")
    if found := first_row(lines.head(last + 1), whole):
        number, count = found
        raise UserError(
            f"{path}, row {number}: not a JSON object ({counted(count, 'such row')}); write one object per line"
        )
    try:
        return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: damaged JSON lines ({short_reason(error)}); write it again") from error


def as_ids(values: pl.Series) -> pl.Series:
    """Ids as integers if all of them are integers, also if a CSV has them as text or pandas turned them into floats.

    Text becomes integers only if that loses nothing: "007" and "1.0" stay text.
    """
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return whole if (whole == values).all() else values
    if values.dtype != pl.String:
        return values
    known = values.filter(values.str.strip_chars() != "").drop_nulls()
    if len(known) and known.str.contains(r"^(0|-?[1-9]\d{0,17})$").all():
        return values.cast(pl.Int64, strict=False)
    return values


def as_numbers(frame: pl.DataFrame, file: Path, column: str, hint: str) -> pl.Series:
    """A column of numbers or booleans. Text is converted, and empty text means unknown. Raises UserError with the row."""
    values = frame[column]
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return values
    if values.dtype != pl.String:
        raise UserError(f"{place(file, column)}: holds {values.dtype}, not numbers; {hint}")
    text = pl.col(column).str.strip_chars()
    told = {"true": "1", "false": "0"}
    numbers = text.str.to_lowercase().replace(told).cast(pl.Float64, strict=False)
    refuse_rows(frame, file, column, numbers.is_null() & (text != ""), f'"{{value}}" is no number ({{rows}}); {hint}')
    return frame.select(numbers)[column]


def as_times(frame: pl.DataFrame, file: Path, column: str) -> pl.Series:
    """Times as int64.

    Whole numbers stay as they are, because only their order matters. Numbers with a fraction are seconds and become milliseconds.
    Dates and ISO 8601 texts become milliseconds as well, in UTC if they have no offset.

    Raises:
        UserError: with the row, for a missing time and for anything else.
    """
    values = frame[column]
    missing = pl.col(column).is_null() | (pl.col(column).cast(pl.String).str.strip_chars() == "")
    refuse_rows(frame, file, column, missing, "the time is missing ({rows}); fill it in or remove the row")
    if values.dtype.is_temporal() and values.dtype in (pl.Date, pl.Datetime):
        return values.cast(pl.Datetime("ms")).cast(pl.Int64)
    if values.dtype == pl.String:
        whole = values.str.strip_chars().cast(pl.Int64, strict=False)
        if whole.null_count() == 0:
            return whole
        numbers = values.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.null_count() > 0:
            return _moments(frame, file, column)
        values = numbers
    if values.dtype.is_float():
        message = "the time is not a finite number; correct it"
        refuse_rows(values.to_frame(), file, column, ~pl.col(column).is_finite(), message)
        fractional = bool((values != values.floor()).any())
        return ((values * 1000).round() if fractional else values).cast(pl.Int64)
    if not values.dtype.is_integer():
        raise UserError(f"{place(file, column)}: times must be numbers, dates or ISO texts, not {values.dtype}")
    return values.cast(pl.Int64)


def _moments(frame: pl.DataFrame, file: Path, column: str) -> pl.Series:
    text = pl.col(column).str.strip_chars()
    # "2024-01-05T10:00:00Z" becomes "2024-01-05 10:00:00+00:00".
    spelled = text.str.replace("T", " ", literal=True).str.replace(r"[Zz]$", "+00:00")
    moments = [spelled.str.to_datetime(form, strict=False, time_unit="ms", time_zone="UTC") for form in TIME_FORMATS]
    parsed = frame.select(pl.coalesce(moments).alias("moment"))["moment"]
    if found := first_row(parsed.to_frame(), pl.col("moment").is_null()):
        row, count = found
        raise UserError(
            f'{place(file, column, row)}: "{frame[column][row - 1]}" is no time ({counted(count, "such row")}); '
            "write a number or an ISO date such as 2024-01-31 18:30:00"
        )
    return parsed.cast(pl.Int64)
