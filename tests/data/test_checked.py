"""Datasets that were checked before: what is remembered, and when it is checked again."""

import os
from pathlib import Path

import polars as pl
import pytest

from onerec.data import checked
from onerec.data.checked import read_checked
from onerec.data.contract import read_dataset
from onerec.errors import UserError


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were checked in full."""
    folders: list[Path] = []

    def counted(folder: Path) -> object:
        folders.append(folder)
        return read_dataset(folder)

    monkeypatch.setattr(checked, "read_dataset", counted)
    return folders


def test_a_second_reading_neither_checks_nor_hashes(small_folder: Path, tmp_path: Path, checks: list[Path]) -> None:
    folder, note = small_folder, tmp_path / "dataset.json"
    first, second = read_checked(folder, note), read_checked(folder, note)
    assert checks == [folder]
    assert second.sha256 == first.sha256 == read_dataset(folder).sha256
    assert second.items.equals(first.items) and second.events.equals(first.events) and second.spec == first.spec


def test_a_changed_file_is_checked_again(small_folder: Path, tmp_path: Path, checks: list[Path]) -> None:
    folder, note = small_folder, tmp_path / "dataset.json"
    first = read_checked(folder, note)
    items = pl.read_parquet(folder / "items.parquet")
    items.with_columns(pl.col("title").fill_null("three")).write_parquet(folder / "items.parquet")
    assert read_checked(folder, note).sha256 != first.sha256
    items.head(2).write_parquet(folder / "items.parquet")  # events of items that are gone
    with pytest.raises(UserError, match=r"events\.parquet"):
        read_checked(folder, note)
    assert len(checks) == 3


def test_a_newer_time_or_a_damaged_note_means_checking_again(
    small_folder: Path, tmp_path: Path, checks: list[Path]
) -> None:
    folder, note = small_folder, tmp_path / "dataset.json"
    read_checked(folder, note)
    os.utime(folder / "events.parquet", ns=(1, 1))
    read_checked(folder, note)
    for damage in ("", "[]", '{"files": []}', '{"sha256": 1, "files": {}}'):
        note.write_text(damage)
        read_checked(folder, note)
    assert len(checks) == 6
