"""Every kind of damage, in a dataset folder and in a file to import, gets its own message with file, column and row."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import save_file

from onerec.data.contract import read_dataset
from onerec.data.sources.tabular import TabularSpec, import_table, tabular_spec
from onerec.errors import UserError


def cell(folder: Path, table: str, column: str, row: int, value: Any) -> None:
    """Put `value` into one cell; rows are counted from 1 as in the messages."""
    path = folder / f"{table}.parquet"
    frame = pl.read_parquet(path)
    values = frame[column].to_list()
    values[row - 1] = value
    frame.with_columns(pl.Series(column, values, dtype=frame.schema[column], strict=False)).write_parquet(path)


def change(folder: Path, table: str, work: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = folder / f"{table}.parquet"
    work(pl.read_parquet(path)).write_parquet(path)


def respell(folder: Path, section: str, key: str, value: Any) -> None:
    path = folder / "dataset.yaml"
    spec = yaml.safe_load(path.read_text())
    (spec[section] if section else spec)[key] = value
    path.write_text(yaml.safe_dump(spec))


def as_type(column: str, kind: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.col(column).cast(kind))


def vectors(folder: Path, values: np.ndarray) -> None:
    np.save(folder / "vectors.npy", values)
    respell(folder, "items", "vectors", ["vectors.npy"])


def with_nan() -> np.ndarray:
    values = np.ones((5, 4), dtype=np.float32)
    values[3, 2] = np.nan
    return values


FOLDER_DAMAGE: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no folder": (shutil.rmtree, ["no such folder"]),
    "no yaml": (lambda f: (f / "dataset.yaml").unlink(), ["dataset.yaml", "missing"]),
    "yaml is no mapping": (lambda f: (f / "dataset.yaml").write_text("- a"), ["dataset.yaml", "mapping"]),
    "yaml is no yaml": (lambda f: (f / "dataset.yaml").write_text("a: [1"), ["dataset.yaml", "YAML"]),
    "unknown key": (lambda f: respell(f, "events", "usr", "x"), ["events.usr", 'did you mean "user"']),
    "unknown key at the top": (lambda f: respell(f, "", "licens", "x"), ['"licens"', 'did you mean "licence"']),
    "missing key": (lambda f: respell(f, "", "items", {"text": []}), ["items.id", "missing"]),
    "wrong split": (lambda f: respell(f, "", "split", "random"), ['"split"', "leave_one_out", "random"]),
    "no events": (lambda f: (f / "events.parquet").unlink(), ["events.parquet", "missing"]),
    "no users": (lambda f: (f / "users.parquet").unlink(), ["users.parquet", "missing"]),
    "users not announced": (lambda f: respell(f, "", "users", None), ["no section for", "users.parquet"]),
    "broken Parquet": (lambda f: (f / "items.parquet").write_bytes(b"PAR1 but no more"), ["items.parquet", "broken"]),
    "cut Parquet": (
        lambda f: (f / "events.parquet").write_bytes((f / "events.parquet").read_bytes()[:-40]),
        ["events.parquet", "broken"],
    ),
    "empty table": (lambda f: change(f, "events", lambda t: t.head(0)), ["events.parquet", "no rows"]),
    "missing column": (
        lambda f: respell(f, "events", "time", "tiem"),
        ["events.parquet", '"tiem"', 'did you mean "time"'],
    ),
    "missing column of videos": (lambda f: respell(f, "items", "videos", ["film"]), ["items.videos", '"film"']),
    "missing column of images": (lambda f: respell(f, "items", "images", ["film"]), ["items.images", '"film"']),
    "videos of numbers": (lambda f: respell(f, "items", "videos", ["year"]), ['"year"', "text must be strings"]),
    "images of numbers": (lambda f: respell(f, "items", "images", ["year"]), ['"year"', "text must be strings"]),
    "missing text column": (lambda f: respell(f, "items", "text", ["titel"]), ["items.text", 'did you mean "title"']),
    "null user": (
        lambda f: cell(f, "events", "user_id", 6, None),
        ['events.parquet, column "user_id", row 6', "empty"],
    ),
    "null item": (lambda f: cell(f, "events", "item_id", 2, None), ['column "item_id", row 2', "item id is empty"]),
    "null id of a user": (lambda f: cell(f, "users", "user_id", 4, None), ['users.parquet, column "user_id", row 4']),
    "float ids": (
        lambda f: change(f, "events", as_type("user_id", pl.Float64)),
        ["user ids must be integers or strings"],
    ),
    "ids of two kinds": (lambda f: change(f, "items", as_type("item_id", pl.String)), ["both as integers or both"]),
    "unknown item": (lambda f: cell(f, "events", "item_id", 5, 77), ['row 5: item "77" is unknown', "items.parquet"]),
    "unknown user": (lambda f: cell(f, "events", "user_id", 8, 77), ['row 8: user "77" is unknown', "users.parquet"]),
    "item twice": (lambda f: cell(f, "items", "item_id", 5, 10), ["items.parquet", "row 5", '"10"', "row 1"]),
    "user twice": (lambda f: cell(f, "users", "user_id", 4, 3), ["users.parquet", "row 4", '"3"', "row 1"]),
    "event twice": (lambda f: cell(f, "events", "item_id", 3, 11), ["events.parquet", "row 3", "duplicated row"]),
    "time backwards": (lambda f: cell(f, "events", "time", 7, 3), ['column "time", row 7', "backwards", 'user "3"']),
    "time missing later": (lambda f: cell(f, "events", "time", 4, None), ['column "time", row 4', "missing although"]),
    "times of text": (lambda f: change(f, "events", as_type("time", pl.String)), ['"time"', "numbers", "String"]),
    "infinite time": (
        lambda f: change(f, "events", lambda t: t.with_columns(pl.col("time").cast(float).replace(7, float("inf")))),
        ['"time", row 8', "finite"],
    ),
    "signal of 2": (lambda f: cell(f, "events", "liked", 3, 2), ['column "liked", row 3', "0 or 1", "not 2"]),
    "signal of text": (lambda f: change(f, "events", as_type("liked", pl.String)), ['"liked"', "0 or 1", "String"]),
    "unknown period": (lambda f: cell(f, "events", "period", 2, "later"), ['"period", row 2', '"later"', "history"]),
    "period backwards": (lambda f: cell(f, "events", "period", 4, "history"), ['"period", row 4', "later period"]),
    "number of text": (lambda f: change(f, "items", as_type("year", pl.String)), ['"year"', "must hold numbers"]),
    "number NaN": (lambda f: cell(f, "items", "year", 3, float("nan")), ['"year", row 3', "finite"]),
    "text of numbers": (lambda f: respell(f, "items", "text", ["year"]), ['"year"', "text must be strings"]),
    "category of lists": (
        lambda f: change(f, "items", lambda t: t.with_columns(pl.col("genre").str.split(" "))),
        ['"genre"', "categories must be"],
    ),
    "by_period without period": (
        lambda f: (respell(f, "events", "period", None), respell(f, "", "split", "by_period")),
        ["dataset.yaml", "events.period"],
    ),
    "by_time without time": (
        lambda f: (respell(f, "events", "time", None), respell(f, "", "split", "by_time")),
        ["dataset.yaml", "events.time"],
    ),
    "vectors missing": (lambda f: respell(f, "items", "vectors", ["image.npy"]), ["image.npy", "missing"]),
    "too few vectors": (lambda f: vectors(f, np.ones((4, 2))), ["vectors.npy", "4 rows for 5 items"]),
    "flat vectors": (lambda f: vectors(f, np.ones(5)), ["vectors.npy", "two dimensions"]),
    "NaN vectors": (lambda f: vectors(f, with_nan()), ["vectors.npy, row 4", "NaN"]),
    "broken vectors": (
        lambda f: (respell(f, "items", "vectors", ["v.npy"]), (f / "v.npy").write_bytes(b"no")),
        ["v.npy", "cannot be read"],
    ),
    "two tensors": (
        lambda f: (
            save_file({"a": np.ones((5, 1)), "b": np.ones((5, 1))}, f / "v.safetensors"),
            respell(f, "items", "vectors", ["v.safetensors"]),
        ),
        ["v.safetensors", "2 tensors"],
    ),
    "vectors of another format": (
        lambda f: (respell(f, "items", "vectors", ["v.pt"]), (f / "v.pt").write_bytes(b"no")),
        ["v.pt", ".npy or .safetensors"],
    ),
}


@pytest.mark.parametrize("kind", FOLDER_DAMAGE)
def test_damaged_folder(kind: str, small_folder: Path) -> None:
    damage, expected = FOLDER_DAMAGE[kind]
    read_dataset(small_folder)
    damage(small_folder)
    with pytest.raises(UserError) as caught:
        read_dataset(small_folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in [str(small_folder), *expected]:
        assert part in message, message


EVENTS_CSV = """customer,article,bought_at,liked
anna,1,2024-01-01,1
anna,2,2024-01-02,0
anna,3,2024-01-03,1
bert,1,2024-01-01,
bert,3,2024-01-05,1
bert,2,2024-01-06,0
"""
ITEMS_CSV = """article,name,price
1,Tea,2.5
2,"Pot, large",30
3,Cup,
4,Spoon,1
"""


def replaced(old: str, new: str) -> str:
    assert old in EVENTS_CSV
    return EVENTS_CSV.replace(old, new, 1)


CSV_DAMAGE: dict[str, tuple[str | bytes, list[str]]] = {
    "missing column": (replaced("customer", "custumer"), ['no column "customer"', "--user", 'did you mean "custumer"']),
    "unknown item": (replaced("bert,3", "bert,9"), ['column "article", row 5', 'item "9" is unknown', "items.csv"]),
    "empty user": (replaced("bert,1", ",1"), ['column "customer", row 4', "user id is empty"]),
    "blank user": (replaced("bert,1", "  ,1"), ['column "customer", row 4', "user id is empty"]),
    "empty item": (replaced("anna,2", "anna,"), ['column "article", row 2', "item id is empty"]),
    "empty time": (replaced("2024-01-06", ""), ['column "bought_at", row 6', "time is missing"]),
    "no time": (replaced("2024-01-06", "soon"), ['column "bought_at", row 6', '"soon" is no time', "ISO"]),
    "short row": (replaced("bert,3,2024-01-05,1", "bert,3"), ["row 5 (line 6)", "2 fields, but the header has 4"]),
    "long row": (replaced("anna,1,2024-01-01,1", "anna,1,2024-01-01,1,1"), ["row 1 (line 2)", "5 fields"]),
    "blank row": (replaced("bert,1", "\nbert,1"), ["row 4 (line 5)", "0 fields"]),
    "open quote": (replaced("bert,3", 'bert,"3'), ["damaged CSV", "quote"]),
    "duplicated row": (EVENTS_CSV + "bert,2,2024-01-06,0\n", ["row 7", "duplicated row", "--drop-duplicates"]),
    "time backwards": (replaced("2024-01-03", "2023-01-03"), ['"bought_at", row 3', "backwards", "--strict"]),
    "empty file": ("", ["the file is empty"]),
    "header only": ("customer,article,bought_at,liked\n", ["no rows"]),
    "not UTF-8": (replaced("bert,3", "b\u00e9rt,3").encode("latin-1"), ["line 6", "not UTF-8", "iconv"]),
    "signal of 5": (replaced("01-05,1", "01-05,5"), ['"liked", row 5', "0 or 1", "not 5"]),
    "signal of text": (replaced("01-05,1", "01-05,much"), ['"liked", row 5', '"much" is no number']),
    "two columns of one name": (replaced("liked", "customer"), ['two columns are called "customer"']),
}


def csv_spec(tmp_path: Path, content: str | bytes = EVENTS_CSV, **more: Any) -> TabularSpec:
    events, items = tmp_path / "events.csv", tmp_path / "items.csv"
    events.write_bytes(content if isinstance(content, bytes) else content.encode())
    items.write_text(ITEMS_CSV)
    told = {"user": "customer", "item": "article", "time": "bought_at", "signals": ["liked"], "items": items}
    told |= {"text": ["name"], "numeric": ["price"], "strict": True, "file": events, "out": tmp_path / "out"} | more
    return TabularSpec.model_validate(told)


@pytest.mark.parametrize("kind", CSV_DAMAGE)
def test_damaged_csv(kind: str, tmp_path: Path) -> None:
    content, expected = CSV_DAMAGE[kind]
    with pytest.raises(UserError) as caught:
        import_table(csv_spec(tmp_path, content))
    message = str(caught.value)
    assert "\n" not in message
    for part in ["events.csv", *expected]:
        assert part in message, message
    assert not (tmp_path / "out" / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("4,Spoon", "2,Spoon", ['column "article", row 4', 'duplicate item id "2"', "row 2"]),
        ("4,Spoon", ",Spoon", ['column "article", row 4', "item id is empty"]),
        (",30", ",dear", ['column "price", row 2', '"dear" is no number', "--categorical"]),
        ("article", "id", ['no column "article"', "--item-id"]),
    ],
)
def test_damaged_items_file(old: str, new: str, expected: list[str], tmp_path: Path) -> None:
    spec = csv_spec(tmp_path)
    (tmp_path / "items.csv").write_text(ITEMS_CSV.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        import_table(spec)
    for part in ["items.csv", *expected]:
        assert part in str(caught.value)


def test_other_damaged_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 cut off")
    with pytest.raises(UserError, match=r"broken\.parquet: broken"):
        import_table(csv_spec(tmp_path, file=broken))
    lines = tmp_path / "events.jsonl"
    lines.write_text('{"customer": 1, "article": 2, "bought_at": 3, "liked": 0}\n{"customer": 1, "arti\n')
    with pytest.raises(UserError, match=r"events\.jsonl, row 2: not a JSON object"):
        import_table(csv_spec(tmp_path, file=lines))
    sheet = tmp_path / "events.xlsx"
    sheet.write_bytes(b"x")
    with pytest.raises(UserError, match=r'"\.xlsx" files are not supported'):
        import_table(csv_spec(tmp_path, file=sheet))
    with pytest.raises(UserError, match="no such file"):
        import_table(csv_spec(tmp_path, file=tmp_path / "absent.csv"))


def test_columns_file_is_checked(tmp_path: Path) -> None:
    mapping = tmp_path / "columns.yaml"
    mapping.write_text("user: customer\nitm: article\n")
    with pytest.raises(UserError, match=r'columns\.yaml: unknown key "itm"; did you mean "item"'):
        tabular_spec({"file": "a.csv", "out": "o", "item": "article"}, mapping)
    mapping.write_text("user: customer\n")
    with pytest.raises(UserError, match=r'key "item" is missing'):
        tabular_spec({"file": "a.csv", "out": "o"}, mapping)
    with pytest.raises(UserError, match="add --items FILE"):
        tabular_spec({"file": "a.csv", "out": "o", "item": "article", "text": ["name"]}, mapping)
