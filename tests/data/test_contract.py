"""What a sound dataset folder gives back, and that writing is all or nothing."""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from safetensors.numpy import save_file

from onerec.data.contract import DatasetSpec, read_dataset, write_dataset
from onerec.errors import UserError

REAL_DATA = os.environ.get("ONEREC_DATA")


def test_reads_what_was_written_and_hashes_content_alone(small_folder: Path, tmp_path: Path) -> None:
    first = read_dataset(small_folder)
    second, third = (
        write_dataset(tmp_path / name, first.spec, first.events, first.items, first.users) for name in "ab"
    )
    assert second.spec == first.spec
    assert "vectors" not in (tmp_path / "a" / "dataset.yaml").read_text()  # empty keys are left out
    assert_frame_equal(second.events, first.events)
    assert_frame_equal(second.items, first.items)
    assert first.users is not None and second.users is not None
    assert_frame_equal(second.users, first.users)
    assert second.sha256 == third.sha256
    changed = first.items.with_columns(year=pl.col("year") + 1)
    assert write_dataset(tmp_path / "b", first.spec, first.events, changed, first.users).sha256 != second.sha256


def test_hash_covers_vector_files(small_folder: Path) -> None:
    spec = yaml.safe_load((small_folder / "dataset.yaml").read_text())
    spec["items"]["vectors"] = ["image.npy", "sound.safetensors"]
    (small_folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    np.save(small_folder / "image.npy", np.ones((5, 3), dtype=np.float32))
    save_file({"vectors": np.ones((5, 2), dtype=np.float16)}, small_folder / "sound.safetensors")
    before = read_dataset(small_folder).sha256
    np.save(small_folder / "image.npy", np.zeros((5, 3), dtype=np.float32))
    assert read_dataset(small_folder).sha256 != before


def test_writing_bad_tables_leaves_the_old_folder_alone(small_folder: Path) -> None:
    good = read_dataset(small_folder)
    broken = good.events.with_columns(item_id=pl.col("item_id") + 50)
    with pytest.raises(UserError, match="unknown"):
        write_dataset(small_folder, good.spec, broken, good.items, good.users)
    assert read_dataset(small_folder).sha256 == good.sha256


def test_users_file_goes_when_the_new_dataset_has_none(small_folder: Path, tmp_path: Path) -> None:
    good = read_dataset(small_folder)
    with pytest.raises(UserError, match="go together"):
        write_dataset(tmp_path / "x", good.spec, good.events, good.items)
    spec = good.spec.model_copy(update={"users": None})
    assert write_dataset(small_folder, spec, good.events, good.items).users is None
    assert not (small_folder / "users.parquet").exists()
    assert not [path for path in small_folder.iterdir() if path.name.endswith(".tmp")]


def test_dictionary_strings_and_mixed_integer_widths_are_fine(small_folder: Path) -> None:
    items = pl.read_parquet(small_folder / "items.parquet")
    items = items.with_columns(pl.col("genre").cast(pl.Categorical), pl.col("item_id").cast(pl.UInt64))
    items.write_parquet(small_folder / "items.parquet")
    assert read_dataset(small_folder).items.schema["genre"] == pl.String


def test_missing_times_may_come_first(small_folder: Path) -> None:
    events = pl.read_parquet(small_folder / "events.parquet")
    times = pl.when(pl.col("period").is_in(["history", "train"])).then(None).otherwise(pl.col("time"))
    events.with_columns(times.alias("time")).write_parquet(small_folder / "events.parquet")
    assert read_dataset(small_folder).events["time"].null_count() == 4


def test_impression_logs_may_hold_an_impression_twice(small_folder: Path) -> None:
    """With play times a row is an impression, and players report some of them twice."""
    events = pl.read_parquet(small_folder / "events.parquet")
    twice = pl.concat([events.head(1), events]).with_columns(play=pl.lit(3))
    twice.write_parquet(small_folder / "events.parquet")
    with pytest.raises(UserError, match="duplicated row"):
        read_dataset(small_folder)
    spec = yaml.safe_load((small_folder / "dataset.yaml").read_text())
    spec["events"]["play_time"] = "play"
    (small_folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    assert read_dataset(small_folder).events.height == 9


@pytest.mark.parametrize(
    ("order", "ordered"),
    [
        (None, True),
        ("rows are in time order", True),
        ("none", False),
        ("None: sets", False),
        ("nonetheless sorted", True),
    ],
)
def test_order_none_means_sets(order: str | None, ordered: bool) -> None:
    spec = DatasetSpec.model_validate(
        {"name": "x", "events": {"user": "u", "item": "i", "order": order}, "items": {"id": "i"}}
    )
    assert spec.events.ordered is ordered


@pytest.mark.skipif(not REAL_DATA, reason="ONEREC_DATA names no folder with real datasets")
@pytest.mark.parametrize(
    ("name", "events", "items"),
    [("amazon-beauty", 198_502, 12_101), ("kuairand-pure", 1_045_516, 7_583), ("kuairec", 1_132_389, 10_728)],
)
def test_real_folders_read_as_they_are(name: str, events: int, items: int) -> None:
    started = time.perf_counter()
    dataset = read_dataset(Path(str(REAL_DATA)) / name)
    assert (dataset.events.height, dataset.items.height) == (events, items)
    # Measured: 0.5 s for a million events; ten times that still excludes walking rows in Python.
    assert time.perf_counter() - started < 5
