"""The artefact: what is saved is what is loaded, and a damaged folder says which file is wrong."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tokenizer.errors import TokenizerError
from tokenizer.semantic_ids import CODES_FILE, DESCRIPTION_FILE, QUANTIZER_FILE, SemanticIds


def example(item_ids: list[str] | list[int]) -> SemanticIds:
    items = len(item_ids)
    return SemanticIds(
        item_ids=pl.Series("item_id", item_ids),
        codes_NL=np.column_stack([np.arange(items), np.zeros(items, int)]).astype(np.int32),
        quantizer_codes_NQ=np.zeros((items, 1), np.int32),
        level_sizes=[items, 2],
        quality={"moved": 1},
        config={"method": "rq_kmeans"},
        quantizer_state={"mean": np.arange(3, dtype=np.float32)},
    )


@pytest.mark.parametrize("item_ids", [["a", "b", "ü"], [5, 3, 9]])
def test_round_trip(tmp_path: Path, item_ids: list[str] | list[int]) -> None:
    saved = example(item_ids)
    saved.save(tmp_path / "deep" / "ids")
    loaded = SemanticIds.load(tmp_path / "deep" / "ids")
    assert loaded.item_ids.to_list() == item_ids
    assert loaded.item_ids.dtype == saved.item_ids.dtype
    np.testing.assert_array_equal(loaded.codes_NL, saved.codes_NL)
    np.testing.assert_array_equal(loaded.quantizer_codes_NQ, saved.quantizer_codes_NQ)
    assert loaded.codes_NL.dtype == np.int32
    assert (loaded.level_sizes, loaded.quality, loaded.config) == (saved.level_sizes, saved.quality, saved.config)
    np.testing.assert_array_equal(loaded.quantizer_state["mean"], saved.quantizer_state["mean"])
    table = pl.read_parquet(tmp_path / "deep" / "ids" / CODES_FILE)
    assert table["codes"].to_list() == saved.codes_NL.tolist()  # readable with nothing but a Parquet reader


def test_saving_replaces_an_artefact_as_a_whole_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "ids"
    folder.mkdir()  # an empty folder is fine
    example([1, 2]).save(folder)
    (folder / "tables").mkdir()  # earlier versions wrote lookup tables here; their artefacts still load
    (folder / "tables" / "ids.json").write_text("{}")
    assert len(SemanticIds.load(folder).item_ids) == 2
    example([1, 2, 3]).save(folder)
    assert len(SemanticIds.load(folder).item_ids) == 3
    assert sorted(path.name for path in folder.iterdir()) == [CODES_FILE, QUANTIZER_FILE, DESCRIPTION_FILE]
    with pytest.raises(TokenizerError, match="holds no semantic IDs"):
        example([1]).save(tmp_path)  # a folder of something else is not touched
    assert [path.name for path in tmp_path.iterdir()] == ["ids"]


def test_a_failed_save_keeps_the_artefact_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ids"
    example([1, 2]).save(folder)
    real = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr("tokenizer.common.files.os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        example([1, 2, 3]).save(folder)
    assert len(SemanticIds.load(folder).item_ids) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["ids"]


@pytest.mark.parametrize("name", [DESCRIPTION_FILE, CODES_FILE, QUANTIZER_FILE])
def test_missing_truncated_and_nonsense_files_are_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "ids"
    example([1, 2]).save(folder)
    whole = (folder / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"nonsense", b""):
        (folder / name).write_bytes(damaged)
        with pytest.raises(TokenizerError, match=name):
            SemanticIds.load(folder)
    (folder / name).unlink()
    with pytest.raises(TokenizerError, match=f"{name}: not found"):
        SemanticIds.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": 5}, "2 items, but .* says 5"),
        ({"level_sizes": [1, 2]}, "row 1 has code 1 on level 1"),
        ({"level_sizes": [2, "two"]}, "level_sizes"),
        ({"level_sizes": [2]}, r"shape \[items, 1\]"),
        ({"quality": None}, "'quality'"),
        ({"format": 99}, "format 99"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    example([1, 2]).save(tmp_path / "ids")
    path = tmp_path / "ids" / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TokenizerError, match=message):
        SemanticIds.load(tmp_path / "ids")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": [1, 2], "codes": [[0, 0], [1, 0]]}, "'quantizer_codes' is missing"),
        ({"item_id": [1, 2], "codes": [[0, 0], [1]], "quantizer_codes": [[0], [0]]}, "lists of equal length"),
        ({"item_id": [1, 2], "codes": [[0, 0], [1, None]], "quantizer_codes": [[0], [0]]}, "without nulls"),
        ({"item_id": [1, 2], "codes": [[0, 0], None], "quantizer_codes": [[0], [0]]}, "lists of equal length"),
        ({"item_id": [1, 2], "codes": ["0", "1"], "quantizer_codes": [[0], [0]]}, "whole numbers"),
        ({"item_id": [1, 1], "codes": [[0, 0], [1, 0]], "quantizer_codes": [[0], [0]]}, "without nulls and duplicates"),
        ({"item_id": [1, 2], "codes": [[0, 0], [0, 0]], "quantizer_codes": [[0], [0]]}, "share a semantic ID"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: dict[str, list[object]], message: str) -> None:
    example([1, 2]).save(tmp_path / "ids")
    pl.DataFrame(table).write_parquet(tmp_path / "ids" / CODES_FILE)
    with pytest.raises(TokenizerError, match=rf"{CODES_FILE}: .*{message}"):
        SemanticIds.load(tmp_path / "ids")
