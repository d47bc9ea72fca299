"""The dataset folder: `events.parquet`, `items.parquet`, optional `users.parquet`, and `dataset.yaml` to explain them.

All other code reads datasets in this form only. `read_dataset` checks the whole folder, and `write_dataset` checks before it
writes, so a broken dataset goes no further. docs/data.md describes the format.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from onerec.data import checks
from onerec.data.checks import nearest_name
from onerec.data.event_log import EventLog, broken_file, missing_file, plain_strings
from onerec.errors import UserError
from onerec.files import write_file, write_text
from tokenizer.item_encoder import ItemTable

SplitMethod = Literal["leave_one_out", "by_time", "by_period"]
S = TypeVar("S", bound=BaseModel)
SPLIT_METHODS: tuple[str, ...] = get_args(SplitMethod)


class Section(BaseModel):
    """A section of dataset.yaml. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EventColumns(Section):
    """The roles of columns in events.parquet. A user's rows are in time order, unless `order` begins with "none"."""

    user: str
    item: str
    time: str | None = None
    period: str | None = None
    order: str | None = None
    signals: list[str] = []
    play_time: str | None = None
    duration: str | None = None

    @property
    def ordered(self) -> bool:
        """False if a user's events are a set without order."""
        words = (self.order or "").lower().split()
        return not (words and words[0].strip(".,;:") == "none")


class ItemColumns(Section):
    """The roles of columns in items.parquet. `vectors` names files with one row per item.

    `videos` and `images` name columns of paths, absolute or relative to the dataset folder. Cells may be empty. The tokenizer
    reads the files themselves; `Dataset.sha256` does not cover them.
    """

    id: str
    text: list[str] = []
    categorical: list[str] = []
    numeric: list[str] = []
    vectors: list[str] = []
    videos: list[str] = []
    images: list[str] = []


class UserColumns(Section):
    """The roles of columns in users.parquet."""

    id: str
    categorical: list[str] = []
    numeric: list[str] = []


class DatasetSpec(Section):
    """The content of dataset.yaml: roles of columns, the licence and the split."""

    name: str
    licence: str = "not stated"
    events: EventColumns
    items: ItemColumns
    users: UserColumns | None = None
    split: SplitMethod = "leave_one_out"

    def to_yaml(self) -> str:
        """The text of dataset.yaml, without empty keys."""
        content = self.model_dump(exclude_none=True)
        for section in ("events", "items", "users"):
            if section in content:
                content[section] = {key: value for key, value in content[section].items() if value != []}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class Dataset:
    """A checked dataset folder. Items and users are in memory; events are read when needed.

    `log` keeps the order of the file, in which each user's events are in time order. `sha256` covers the content of all files
    of the dataset, so equal hashes mean equal data.
    """

    folder: Path
    spec: DatasetSpec
    log: EventLog
    items: pl.DataFrame
    users: pl.DataFrame | None
    sha256: str

    @cached_property
    def events(self) -> pl.DataFrame:
        """All events in memory, for small logs and for pathways, which need whole columns."""
        return self.log.whole()

    @property
    def item_table(self) -> ItemTable:
        """The items and the columns that describe them, as input of the tokenizer."""
        columns = self.spec.items.model_dump(exclude={"id"})
        return ItemTable(self.items, columns, self.folder, self.spec.name)


def read_dataset(folder: Path) -> Dataset:
    """Read and check a dataset folder.

    Raises:
        UserError: with file, column and row, for missing files or columns, broken Parquet, wrong types, empty or unknown ids,
            duplicated rows, times that run backwards, unknown periods, signals other than 0 and 1, empty tables, and vectors that
            do not fit the items.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `onerec data --help` shows how to make a dataset folder")
    spec = read_spec(folder / "dataset.yaml")
    log = EventLog.of_file(folder / "events.parquet")
    checks.check_not_empty(log, folder / "events.parquet")
    items = read_parquet(folder / "items.parquet")
    users_file = folder / "users.parquet"
    if spec.users is None and users_file.exists():
        raise UserError(
            f'{folder / "dataset.yaml"}: no section for {users_file}; add "users: {{id: …}}" or remove the file'
        )
    users = None if spec.users is None else read_parquet(users_file)
    check_tables(folder, spec, log, items, users)
    return Dataset(folder, spec, log, items, users, content_hash(folder, spec))


def write_dataset(
    folder: Path, spec: DatasetSpec, events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame | None = None
) -> Dataset:
    """Check the tables, write the folder, and read it back.

    Each file is written under a temporary name and renamed. An old dataset.yaml is removed first, and the new one is written
    last, so a half-written folder never looks complete. Files that `items.vectors` names must already be in the folder. Raises
    UserError as `read_dataset` does.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder for the dataset")
    if (spec.users is None) != (users is None):
        raise UserError(f"{folder}: a users table and the users section of dataset.yaml go together; give both or none")
    log, items = EventLog(events), plain_strings(items)
    users = None if users is None else plain_strings(users)
    check_tables(folder, spec, log, items, users)
    if not (folder / "dataset.yaml").exists():
        for name in ("events", "items", "users"):
            if (folder / f"{name}.parquet").exists():
                raise UserError(
                    f"{folder / name}.parquet: would be overwritten, and {folder} is no dataset folder (it has no dataset.yaml); "
                    "name another folder; nothing was changed"
                )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.yaml").unlink(missing_ok=True)
    write_file(folder / "events.parquet", lambda path: log.whole().write_parquet(path, compression="zstd"))
    write_file(folder / "items.parquet", lambda path: items.write_parquet(path, compression="zstd"))
    if users is None:
        (folder / "users.parquet").unlink(missing_ok=True)
    else:
        write_file(folder / "users.parquet", lambda path: users.write_parquet(path, compression="zstd"))
    write_spec(folder, spec)
    return read_dataset(folder)


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """Write dataset.yaml. It comes last and completes a folder of tables."""
    write_text(folder / "dataset.yaml", spec.to_yaml())


def read_spec(path: Path) -> DatasetSpec:
    """Read dataset.yaml. Raises UserError for broken YAML, unknown or missing keys and wrong values."""
    if not path.is_file():
        raise UserError(f"{path}: missing; this file says what the columns of a dataset mean (see docs/data.md)")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())}); correct the file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping with name, events, items and split (see docs/data.md)")
    return parse_section(DatasetSpec, content, str(path))


def parse_section(model: type[S], content: dict[str, Any], where: str) -> S:
    """Build a pydantic model from a mapping. The first error becomes a UserError that names the key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = nearest_name(str(first["loc"][-1]), _keys_at(model, first["loc"][:-1]))
        raise UserError(f'{where}: unknown key "{key}"; {hint}')
    if first["type"] == "missing":
        raise UserError(f'{where}: key "{key}" is missing; add it')
    raise UserError(f'{where}: key "{key}": {first["msg"][0].lower()}{first["msg"][1:]}, not {first["input"]!r}')


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `path` allows."""
    for part in path:
        annotation: Any = model.model_fields[str(part)].annotation
        options = [annotation, *get_args(annotation)]
        model = next(kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(model.model_fields)


def read_parquet(path: Path) -> pl.DataFrame:
    """A whole Parquet file. Raises UserError if it is missing, broken or empty."""
    if not path.is_file():
        raise missing_file(path)
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise broken_file(path, error) from error
    checks.check_not_empty(frame, path)
    return plain_strings(frame)


def check_tables(
    folder: Path, spec: DatasetSpec, events: EventLog, items: pl.DataFrame, users: pl.DataFrame | None
) -> None:
    """Run all checks on tables. `folder` holds the vector files and gives messages their file names."""
    events_file, items_file, users_file = (folder / f"{name}.parquet" for name in ("events", "items", "users"))
    _check_described(items, items_file, spec.items, "item")
    for name in spec.items.vectors:
        checks.check_vectors(folder / name, items.height)
    if users is not None and spec.users is not None:
        _check_described(users, users_file, spec.users, "user")
    check_events(events_file, spec, events)
    checks.check_known_ids(events, events_file, spec.events.item, items[spec.items.id], items_file, "item")
    if users is not None and spec.users is not None:
        checks.check_known_ids(events, events_file, spec.events.user, users[spec.users.id], users_file, "user")


def _check_described(frame: pl.DataFrame, file: Path, spec: ItemColumns | UserColumns, what: str) -> None:
    """Check for one row per item or user, and for columns of the right types. `what` is "item" or "user"."""
    checks.check_not_empty(frame, file)
    checks.check_column(frame, file, spec.id, f"{what}s.id")
    kinds = {"text": checks.check_text, "categorical": checks.check_categorical, "numeric": checks.check_numeric}
    for key, check in (kinds | {"videos": checks.check_text, "images": checks.check_text}).items():
        for column in getattr(spec, key, []):
            checks.check_column(frame, file, column, f"{what}s.{key}")
            check(frame, file, column)
    checks.check_ids(frame, file, spec.id, what)
    checks.check_unique_ids(frame, file, spec.id, what)


def check_events(file: Path, spec: DatasetSpec, events: EventLog) -> None:
    """Check ids, times, periods and signals of the events. `check_tables` compares the ids with the other tables."""
    columns = spec.events
    checks.check_not_empty(events, file)
    singles = {"user": columns.user, "item": columns.item, "time": columns.time, "period": columns.period}
    singles |= {"play_time": columns.play_time, "duration": columns.duration}
    wanted = [(key, name) for key, name in singles.items() if name] + [("signals", name) for name in columns.signals]
    for key, name in wanted:
        checks.check_column(events, file, name, f"events.{key}")
    checks.check_ids(events, file, columns.user, "user")
    checks.check_ids(events, file, columns.item, "item")
    for name in columns.signals:
        checks.check_signal(events, file, name)
    for measure in (columns.play_time, columns.duration):
        if measure:
            checks.check_numeric(events, file, measure)
    if columns.period:
        checks.check_periods(events, file, columns.user, columns.period, columns.ordered)
    elif spec.split == "by_period":
        raise UserError(
            f"{file.with_name('dataset.yaml')}: split by_period needs a period column; name it under events.period"
        )
    if columns.time:
        checks.check_time_type(events, file, columns.time)
        if columns.ordered:
            checks.check_time_order(events, file, columns.user, columns.time)
        # Players report some impressions twice in the same millisecond. Logs with play times are kept as published.
        if columns.play_time is None:
            checks.check_repeats(events, file, columns.user, columns.item, columns.time)
    elif spec.split == "by_time":
        raise UserError(
            f"{file.with_name('dataset.yaml')}: split by_time needs a time column; name it under events.time"
        )


def content_hash(folder: Path, spec: DatasetSpec) -> str:
    """SHA-256 over the names and contents of all files of the dataset, read in blocks."""
    total = hashlib.sha256()
    for name in file_names(spec):
        with (folder / name).open("rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def file_names(spec: DatasetSpec) -> list[str]:
    """The files of a dataset folder, in the order of hashing."""
    users = ["users.parquet"] if spec.users else []
    return ["dataset.yaml", "events.parquet", "items.parquet", *users, *spec.items.vectors]
