"""A dataset folder from a user's own tables: events, and optionally items and users."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from onerec.data import checks
from onerec.data.contract import (
    Dataset,
    DatasetSpec,
    EventColumns,
    ItemColumns,
    Section,
    SplitMethod,
    UserColumns,
    parse_section,
    write_dataset,
)
from onerec.data.sources.tables import as_ids, as_numbers, as_times, read_table
from onerec.errors import UserError


class TabularSpec(Section):
    """The settings of `onerec data import`: the files, and the roles of their columns."""

    file: Path
    out: Path
    user: str
    item: str
    time: str | None = None
    signals: list[str] = []
    items: Path | None = None
    item_id: str | None = None  # by default named as in the events
    text: list[str] = []
    categorical: list[str] = []
    numeric: list[str] = []
    users: Path | None = None
    user_id: str | None = None  # by default named as in the events
    user_categorical: list[str] = []  # by default every text, integer and true/false column of the users file
    user_numeric: list[str] = []
    name: str | None = None  # by default the name of the file
    licence: str = "not stated"
    split: SplitMethod = "leave_one_out"
    drop_duplicates: bool = False
    strict: bool = False


@dataclass(frozen=True)
class ImportReport:
    """The finished dataset, and one sentence about everything that was noticed or changed."""

    dataset: Dataset
    notices: list[str]


def tabular_spec(flags: Mapping[str, Any], columns: Path | None = None) -> TabularSpec:
    """Settings from command-line flags and from a YAML file with the same keys (`--columns`).

    Flags override the file, unless they are empty. Paths in the file are relative to the current folder. Raises UserError for
    unknown or missing keys.
    """
    told: dict[str, Any] = {}
    where = "onerec data import"
    if columns is not None:
        where = str(columns)
        try:
            told = yaml.safe_load(Path(columns).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{columns}: cannot be read ({error.strerror}); check the path") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"{columns}: not readable as YAML ({' '.join(str(error).split())}); correct the file"
            ) from error
        if not isinstance(told, dict):
            raise UserError(f"{columns}: must be a mapping such as {{user: customer, item: article, time: bought_at}}")
    given = {key: value for key, value in flags.items() if value is not None and value is not False and value != []}
    spec = parse_section(TabularSpec, {**told, **given}, where)
    described = {"items": ("item_id", "text", "categorical", "numeric")}
    for table, keys in (described | {"users": ("user_id", "user_categorical", "user_numeric")}).items():
        for key in keys:
            if getattr(spec, key) and getattr(spec, table) is None:
                raise UserError(f'{where}: "{key}" describes the {table} file, but there is none; add --{table} FILE')
    return spec


def import_table(spec: TabularSpec) -> ImportReport:
    """Read the tables, check them, and write the dataset folder.

    If a user's events are out of order, all events are sorted by time (stable) with a notice, or refused if `spec.strict`.
    Events with the same user, item and time are refused, or reduced to the first if `spec.drop_duplicates`. Without a time
    column, events keep the order of the file.

    Raises:
        UserError: with file, column and row, for every fault in a file.
    """
    if spec.split == "by_period":
        raise UserError("onerec data import: split by_period needs published periods; use by_time")
    if spec.split == "by_time" and spec.time is None:
        raise UserError("onerec data import: split by_time needs a time column; name it with --time")
    for source in filter(None, (spec.file, spec.items, spec.users)):
        for name in ("events.parquet", "items.parquet", "users.parquet", "dataset.yaml"):
            if source.exists() and (spec.out / name).exists() and source.samefile(spec.out / name):
                raise UserError(
                    f"{source}: the import would overwrite this file, which it reads; name another folder for --out"
                )
    notices: list[str] = []
    events = _read_events(spec)
    if spec.time is not None:
        events = _without_duplicates(events, spec, notices)
        events = _in_order(events, spec, notices)
    events, items, item_columns = _read_items(spec, events)
    events, users, user_columns = _read_users(spec, events, notices)
    _notice_short_histories(events, spec, notices)
    dataset_spec = DatasetSpec(
        name=spec.name or spec.file.name.split(".")[0],
        licence=spec.licence,
        events=EventColumns(
            user=spec.user,
            item=spec.item,
            time=spec.time,
            order=None if spec.time else "rows are in time order within each user, as imported; no timestamps",
            signals=spec.signals,
        ),
        items=item_columns,
        users=user_columns,
        split=spec.split,
    )
    return ImportReport(write_dataset(spec.out, dataset_spec, events, items, users), notices)


def _read_events(spec: TabularSpec) -> pl.DataFrame:
    table = read_table(spec.file)
    wanted = [(spec.user, "--user"), (spec.item, "--item")]
    wanted += [(spec.time, "--time")] if spec.time else []
    wanted += [(name, "--signals") for name in spec.signals]
    for column, flag in wanted:
        checks.check_column(table, spec.file, column, flag)
    names = [name for name, _ in wanted]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f'{spec.file}: column "{twice}" has two roles; name each column once')
    events = table.select(names).with_columns(as_ids(table[spec.user]), as_ids(table[spec.item]))
    checks.check_ids(events, spec.file, spec.user, "user")
    checks.check_ids(events, spec.file, spec.item, "item")
    if spec.time:
        events = events.with_columns(as_times(table, spec.file, spec.time).alias(spec.time))
    for name in spec.signals:
        values = as_numbers(events, spec.file, name, "a signal is 0 or 1; correct it or leave it out of --signals")
        events = events.with_columns(values.alias(name))
        checks.check_signal(events, spec.file, name)
        events = events.with_columns(pl.col(name).cast(pl.Int8))
    return events


def _without_duplicates(events: pl.DataFrame, spec: TabularSpec, notices: list[str]) -> pl.DataFrame:
    assert spec.time is not None
    again = checks.repeated(spec.user, spec.item, spec.time)
    found = checks.first_row(events, again)
    if found is None:
        return events
    row, count = found
    where = checks.place(spec.file, spec.item, row)
    who = (
        f'an earlier row has the same time, user "{events[spec.user][row - 1]}" and item "{events[spec.item][row - 1]}"'
    )
    if not spec.drop_duplicates:
        raise UserError(
            f"{where}: duplicated row, {who} ({checks.counted(count, 'duplicate')} in all); "
            "remove them or add --drop-duplicates"
        )
    notices.append(f"{where}: {who}; dropped {checks.counted(count, 'duplicated row')} and kept the first of each")
    return events.filter(~again)


def _in_order(events: pl.DataFrame, spec: TabularSpec, notices: list[str]) -> pl.DataFrame:
    """Events sorted by time, unless each user's events are in order already."""
    assert spec.time is not None
    found = checks.first_row(events, checks.backwards(spec.user, spec.time))
    if found is None:
        return events
    row, count = found
    where = checks.place(spec.file, spec.time, row)
    problem = f'time runs backwards for user "{events[spec.user][row - 1]}" ({checks.counted(count, "such row")})'
    if spec.strict:
        raise UserError(f"{where}: {problem}; sort the file by user and time, or import without --strict")
    notices.append(f"{where}: {problem}; events were sorted by time, and equal times keep the order of the file")
    return events.sort(spec.time, maintain_order=True)


def _read_items(spec: TabularSpec, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, ItemColumns]:
    """Events and items. Without an items file, items are the sorted ids, so that their order says nothing about time."""
    if spec.items is None:
        return events, events.select(pl.col(spec.item).unique().sort()), ItemColumns(id=spec.item)
    file, key = spec.items, spec.item_id or spec.item
    table = read_table(file)
    checks.check_column(table, file, key, "--item-id")
    for flag, columns in (("--text", spec.text), ("--categorical", spec.categorical), ("--numeric", spec.numeric)):
        for column in columns:
            checks.check_column(table, file, column, flag)
    events, items = _with_shared_ids(events, spec.item, table, file, key, "item")
    items = _with_numbers(items, file, spec.numeric, "--categorical")
    items = items.with_columns(pl.col(name).cast(pl.String) for name in spec.text if not items.schema[name].is_nested())
    kept = list(dict.fromkeys([key, *spec.text, *spec.categorical, *spec.numeric]))
    checks.check_known_ids(events, spec.file, spec.item, items[key], file, "item")
    columns_of = ItemColumns(id=key, text=spec.text, categorical=spec.categorical, numeric=spec.numeric)
    return events, items.select(kept), columns_of


def _read_users(
    spec: TabularSpec, events: pl.DataFrame, notices: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame | None, UserColumns | None]:
    """Events and, if there is a users file, the users with the columns that become features."""
    if spec.users is None:
        return events, None, None
    file, key = spec.users, spec.user_id or spec.user
    table = read_table(file)
    checks.check_column(table, file, key, "--user-id")
    events, users = _with_shared_ids(events, spec.user, table, file, key, "user")
    categorical, numeric = spec.user_categorical, spec.user_numeric
    if not categorical and not numeric:
        kinds = {name: kind for name, kind in users.schema.items() if name != key}
        categorical = [name for name, kind in kinds.items() if kind in (pl.String, pl.Boolean) or kind.is_integer()]
        numeric = [name for name, kind in kinds.items() if kind.is_float()]
        notices.append(f"{file}: user features are the columns {', '.join(categorical + numeric) or '(none)'}")
    for column in [*categorical, *numeric]:
        checks.check_column(users, file, column, "the users section")
    users = _with_numbers(users, file, numeric, "user_categorical")
    checks.check_known_ids(events, spec.file, spec.user, users[key], file, "user")
    columns_of = UserColumns(id=key, categorical=categorical, numeric=numeric)
    return events, users.select([key, *categorical, *numeric]), columns_of


def _with_shared_ids(
    events: pl.DataFrame, column: str, table: pl.DataFrame, file: Path, key: str, what: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables with ids of one kind: integers in one file and text in the other (because one id is "x9") become text."""
    table = table.with_columns(as_ids(table[key]))
    if events.schema[column].is_integer() and table.schema[key] == pl.String:
        events = events.with_columns(pl.col(column).cast(pl.String))
    elif events.schema[column] == pl.String and table.schema[key].is_integer():
        table = table.with_columns(pl.col(key).cast(pl.String))
    checks.check_ids(table, file, key, what)
    checks.check_unique_ids(table, file, key, what)
    return events, table


def _with_numbers(table: pl.DataFrame, file: Path, columns: list[str], otherwise: str) -> pl.DataFrame:
    for column in columns:
        hint = f"correct it, or name the column under {otherwise}"
        table = table.with_columns(as_numbers(table, file, column, hint).alias(column))
        checks.check_numeric(table, file, column)
    return table


def _notice_short_histories(events: pl.DataFrame, spec: TabularSpec, notices: list[str]) -> None:
    needed = 3 if spec.split == "leave_one_out" else 2
    short = int(events.group_by(spec.user).len().select((pl.col("len") < needed).sum()).item())
    if short:
        notices.append(
            f"{spec.file}: {checks.counted(short, 'user')} with fewer than {needed} events: "
            "used for training, but not for evaluation"
        )
