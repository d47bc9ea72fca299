"""dataset.yaml may name columns of paths to videos and images; the columns are checked, the files are not."""

from pathlib import Path

import polars as pl
import pytest

from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, read_dataset, write_dataset
from onerec.errors import UserError

EVENTS = pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"]})
ITEMS = pl.DataFrame(
    {"item": ["a", "b", "c"], "clip": ["a.mp4", None, "c.mp4"], "cover": ["a.png", "", "c.png"], "n": 1}
)


def spec(**columns: list[str]) -> DatasetSpec:
    return DatasetSpec(
        name="films", events=EventColumns(user="user", item="item"), items=ItemColumns(id="item", **columns)
    )


def test_columns_of_paths_are_kept(tmp_path: Path) -> None:
    write_dataset(tmp_path, spec(videos=["clip"], images=["cover"]), EVENTS, ITEMS)
    again = read_dataset(tmp_path).spec.items
    assert again.videos == ["clip"] and again.images == ["cover"]
    write_dataset(tmp_path, spec(), EVENTS, ITEMS)
    assert "videos" not in (tmp_path / "dataset.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["videos", "images"])
def test_columns_of_paths_must_be_there_and_hold_text(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=rf"items\.{key}"):
        write_dataset(tmp_path, spec(**{key: ["film"]}), EVENTS, ITEMS)
    with pytest.raises(UserError, match="text must be strings"):
        write_dataset(tmp_path, spec(**{key: ["n"]}), EVENTS, ITEMS)
