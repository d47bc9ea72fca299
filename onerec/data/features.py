"""Features of events, items and users as small integer codes for embeddings.

Every feature is a column of codes. Code 0 means unknown: a null, a value that training never showed, or a user or item without a
row. Values and bucket edges are learnt from training events and from the tables of items and users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors.numpy import load_file, save_file

from onerec.data.checks import nearest_name
from onerec.data.contract import Dataset, DatasetSpec
from onerec.data.lifelong import LifelongConfig
from onerec.errors import UserError
from tokenizer.common.settings import Settings, Width

BUCKETS = 16  # of a numeric feature, with about equally many training values each
VALUES_PER_CELL = 8  # the most values that are read from one cell of the items table
COLUMNS_FILE, ITEM_CODES_FILE = "features.json", "item_features.safetensors"

Names = list[str] | Literal["all"]


class PathwaysConfig(Settings):
    """What the generator reads in addition to the items of positive events. The defaults add nothing.

    Attributes:
        stream: whether the history holds "positive" events only, or "all" events.
        event_features, item_features, user_features: names from dataset.yaml, or "all".
        feature_width: width of a feature's embedding.
        feature_dropout: probability in training that an event or a user loses all its features.
        positive_length: how many positive events before the history are read as well.
        lifelong: how all events before the history are read; None if they are not.
    """

    stream: Literal["positive", "all"] = "positive"
    event_features: Names = []
    item_features: Names = []
    user_features: Names = []
    feature_width: Width = 16
    feature_dropout: float = Field(0.1, ge=0, lt=1)
    positive_length: int = Field(0, ge=0, le=1_000_000)
    lifelong: LifelongConfig | None = None

    @property
    def names_features(self) -> bool:
        """Whether the config asks for any features."""
        return bool(self.event_features or self.item_features or self.user_features)

    @property
    def in_use(self) -> bool:
        """Whether the generator reads more than the items of the newest positive events."""
        more_events = self.stream == "all" or self.positive_length > 0 or self.lifelong is not None
        return self.names_features or more_events


class FeatureColumn(BaseModel):
    """How one column becomes codes: categories by their `values`, numbers by the `edges` between buckets.

    Without both, training never showed a value, and every code is 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    values: list[str] | None = None
    edges: list[float] | None = None

    @property
    def size(self) -> int:
        """Number of codes, including the one for unknown."""
        if self.values is not None:
            return 1 + len(self.values)
        return 1 if self.edges is None else 2 + len(self.edges)

    @classmethod
    def of(cls, shown: pl.Series, category: bool) -> Self:
        """A column of the values or of buckets of the numbers in `shown`."""
        return cls.of_category(shown.name, shown) if category else cls.of_number(shown.name, shown)

    @classmethod
    def of_category(cls, name: str, shown: pl.Series, least: int = 1) -> Self:
        """A column of the values that occur at least `least` times in `shown`."""
        counts = shown.alias("value").cast(pl.String).drop_nulls().value_counts(name="cells")
        return cls(name=name, values=counts.filter(pl.col("cells") >= least)["value"].sort().to_list())

    @classmethod
    def of_number(cls, name: str, shown: pl.Series) -> Self:
        """A column of buckets between the quantiles of the values in `shown`."""
        known = shown.drop_nulls().cast(pl.Float64).to_numpy()
        if not len(known):
            return cls(name=name)
        edges = np.unique(np.quantile(known, np.arange(1, BUCKETS) / BUCKETS))
        return cls(name=name, edges=edges.tolist())

    def encode(self, column: pl.Series) -> np.ndarray:
        """The code of each cell, int32."""
        if self.size == 1:
            return np.zeros(len(column), dtype=np.int32)
        if self.values is None:
            numbers = column.cast(pl.Float64)
            codes = np.searchsorted(self.edges or [], numbers.fill_null(0).to_numpy(), side="right") + 1
            return np.where(numbers.is_null().to_numpy(), 0, codes).astype(np.int32)
        numbered = list(range(1, self.size))
        found = column.cast(pl.String).replace_strict(self.values, numbered, default=0, return_dtype=pl.Int32)
        return found.fill_null(0).to_numpy()


@dataclass(frozen=True)
class FeatureVocabulary:
    """The features of a generator, and the codes of its items.

    Attributes:
        event, item, user: the feature columns of each, in the order of their codes.
        item_codes_NGM: int32, up to M codes per item in each of G columns, padded with 0.
    """

    event: list[FeatureColumn]
    item: list[FeatureColumn]
    user: list[FeatureColumn]
    item_codes_NGM: np.ndarray

    @classmethod
    def fit(cls, dataset: Dataset, config: PathwaysConfig, training_events: pl.DataFrame) -> Self:
        """Learn values and buckets.

        Args:
            dataset: its tables of items and users are read.
            config: names the features.
            training_events: result of `event_values` for training events only.

        Raises:
            UserError: a name that is not in dataset.yaml.
        """
        spec, names = dataset.spec, feature_names(dataset, config)
        event = [FeatureColumn.of(training_events[name], name in spec.events.signals) for name in names["event"]]
        user = []
        if dataset.users is not None and spec.users is not None:
            user = [FeatureColumn.of(dataset.users[name], name in spec.users.categorical) for name in names["user"]]
        # A value that only one item has says no more than the item itself.
        item = [
            FeatureColumn.of_category(name, _split_cells(dataset.items[name])["value"], least=2)
            if name in spec.items.categorical
            else FeatureColumn.of_number(name, dataset.items[name])
            for name in names["item"]
        ]
        return cls(event, item, user, _item_codes(dataset, item))

    def event_codes(self, events: pl.DataFrame) -> np.ndarray:
        """Codes int16 `[E, F]` of a result of `event_values`."""
        codes = [column.encode(events[column.name]) for column in self.event]
        return np.stack(codes, axis=1).astype(np.int16) if codes else np.zeros((events.height, 0), np.int16)

    def user_codes(self, dataset: Dataset, user_ids: pl.Series) -> np.ndarray:
        """Codes int32 `[U, F]` of users; all 0 for a user without a row in the users table."""
        from onerec.data.split import rows_of

        if not self.user:
            return np.zeros((len(user_ids), 0), np.int32)
        if dataset.users is None or dataset.spec.users is None:
            return np.zeros((len(user_ids), len(self.user)), np.int32)
        rows_U = rows_of(user_ids, dataset.users[dataset.spec.users.id])
        codes_RF = np.stack([column.encode(dataset.users[column.name]) for column in self.user], axis=1)
        return np.where(rows_U[:, None] >= 0, codes_RF[np.maximum(rows_U, 0)], 0).astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write the columns as JSON and the items' codes as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"event": self.event, "item": self.item, "user": self.user}
        text = _COLUMNS.dump_json(columns, indent=1, exclude_none=True).decode()
        (folder / COLUMNS_FILE).write_text(text + "\n", encoding="utf-8")
        save_file({"item_codes": np.ascontiguousarray(self.item_codes_NGM)}, folder / ITEM_CODES_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises UserError if a file is missing or unreadable."""
        try:
            columns = _COLUMNS.validate_json((folder / COLUMNS_FILE).read_bytes())
            codes = load_file(folder / ITEM_CODES_FILE)["item_codes"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder}: cannot read the generator's features ({error}); train the generator again"
            ) from error
        return cls(columns["event"], columns["item"], columns["user"], codes)


_COLUMNS = TypeAdapter(dict[str, list[FeatureColumn]])


def feature_names(dataset: Dataset, config: PathwaysConfig) -> dict[str, list[str]]:
    """The names of the features that the config asks for, by "event", "item" and "user". "all" and "signals" are expanded.

    Raises:
        UserError: a name that is not in dataset.yaml.
    """
    spec = dataset.spec
    known = {
        "event": _known_event_features(spec),
        "item": {name: [name] for name in [*spec.items.categorical, *spec.items.numeric]},
        "user": {name: [name] for name in [*spec.users.categorical, *spec.users.numeric]} if spec.users else {},
    }
    asked = {"event": config.event_features, "item": config.item_features, "user": config.user_features}
    found: dict[str, list[str]] = {}
    for kind, names in asked.items():
        wanted = list(known[kind]) if names == "all" else list(names)
        for name in wanted:
            if name not in known[kind]:
                raise UserError(
                    f'generator.pathways.{kind}_features: {dataset.folder / "dataset.yaml"} names no "{name}"; '
                    f"{nearest_name(name, known[kind])}"
                )
        found[kind] = list(dict.fromkeys(one for name in wanted for one in known[kind][name]))
    return found


def _known_event_features(spec: DatasetSpec) -> dict[str, list[str]]:
    """The names that a config may use, and the columns of `event_values` that each stands for."""
    columns = spec.events
    known = {"signals": list(columns.signals)} if columns.signals else {}
    known |= {name: [name] for name in columns.signals}
    if columns.play_time and columns.duration:
        known["play_ratio"] = ["play_ratio"]
    if columns.duration:
        known["duration"] = ["duration"]
    if columns.time:
        known["time_gap"] = ["time_gap"]
    return known


def event_values(dataset: Dataset, names: Sequence[str], rows_E: np.ndarray, offsets: np.ndarray) -> pl.DataFrame:
    """The values of event features before they become codes, one column per feature.

    Args:
        dataset: its events are read.
        names: as from `feature_names`.
        rows_E: the events' rows in events.parquet, user by user, oldest first.
        offsets: `[U + 1]`, where each user begins. A time gap is counted from the user's previous event; the first has none.
    """
    columns, events = dataset.spec.events, dataset.events[rows_E]
    made: dict[str, pl.Expr] = {name: pl.col(name) for name in columns.signals if name in names}
    if columns.duration:
        duration = pl.when(pl.col(columns.duration) > 0).then(pl.col(columns.duration).cast(pl.Float64))
        made["duration"] = duration
        if columns.play_time:
            made["play_ratio"] = pl.col(columns.play_time).cast(pl.Float64) / duration
    if columns.time:
        first = np.zeros(len(rows_E), dtype=bool)
        first[offsets[:-1][np.diff(offsets) > 0]] = True
        gap = pl.col(columns.time).to_physical().diff().cast(pl.Float64)
        made["time_gap"] = pl.when(~pl.lit(pl.Series("first", first))).then(gap)
    return events.select(made[name].alias(name) for name in names)


def _split_cells(column: pl.Series) -> pl.DataFrame:
    """The distinct values of each cell, as `row` and `value`. Spaces, commas and bars separate the values of a cell."""
    table = pl.DataFrame({"row": np.arange(len(column)), "value": column.cast(pl.String)})
    table = table.with_columns(pl.col("value").str.extract_all(r"[^\s,|]+")).explode("value").drop_nulls()
    return table.unique(maintain_order=True)


def _item_codes(dataset: Dataset, columns: list[FeatureColumn]) -> np.ndarray:
    """Codes int32 `[N, G, M]` of all items. The codes of a cell come first, then padding."""
    codes_NGM = np.zeros((dataset.items.height, len(columns), VALUES_PER_CELL), dtype=np.int32)
    for place, column in enumerate(columns):
        if column.values is None:
            codes_NGM[:, place, 0] = column.encode(dataset.items[column.name])
            continue
        cells = _split_cells(dataset.items[column.name])
        codes, rows = column.encode(cells["value"]), cells["row"].to_numpy()
        codes, rows = codes[codes > 0], rows[codes > 0]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)  # rows ascend
        kept = rank < VALUES_PER_CELL
        codes_NGM[rows[kept], place, rank[kept]] = codes[kept]
    most = max(1, int((codes_NGM > 0).sum(axis=2).max(initial=0)))
    return np.ascontiguousarray(codes_NGM[:, :, :most])
