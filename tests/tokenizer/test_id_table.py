"""Item to ID and back from files that are mapped, not read."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import text_rows
from tokenizer.errors import TokenizerError
from tokenizer.id_table import DESCRIPTION_FILE, IdTable, write_id_table
from tokenizer.semantic_ids import TABLES_FOLDER, SemanticIds


def different_codes(items: int, levels: int = 3, size: int = 9, seed: int = 0) -> np.ndarray:
    chosen = np.random.default_rng(seed).choice(size**levels, items, replace=False)
    return np.stack(np.unravel_index(chosen, (size,) * levels), axis=1).astype(np.int32)


def tables(folder: Path, item_ids: pl.Series, codes: np.ndarray) -> IdTable:
    write_id_table(folder, item_ids, codes)
    return IdTable.open(folder)


ID_LISTS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60, unique=True),
    st.lists(st.text(max_size=6), min_size=1, max_size=60, unique=True),
)


@settings(max_examples=150)
@given(item_ids=ID_LISTS, others=ID_LISTS, levels=st.integers(1, 4), seed=st.integers(0, 99))
def test_both_ways_for_known_and_unknown_items(
    tmp_path_factory: pytest.TempPathFactory,
    item_ids: list[int] | list[str],
    others: list[int] | list[str],
    levels: int,
    seed: int,
) -> None:
    codes = different_codes(len(item_ids), levels, 60, seed)
    table = tables(tmp_path_factory.mktemp("tables"), pl.Series(item_ids), codes)
    assert (table.items, table.levels) == (len(item_ids), levels)
    asked = [*item_ids, *(other for other in others if type(other) is type(item_ids[0]))]
    order = np.random.default_rng(seed).permutation(len(asked))
    asked = [asked[place] for place in order]
    known = dict(zip(item_ids, codes.tolist(), strict=True))
    assert table.codes_of(asked).tolist() == [known.get(item, [-1] * levels) for item in asked]
    queries = np.concatenate([codes, np.random.default_rng(seed).integers(-1, 61, size=(50, levels))])
    named = {tuple(code): item for item, code in known.items()}
    found = table.items_of(queries)
    assert found.to_list() == [named.get(tuple(query)) for query in queries.tolist()]
    assert found.dtype == pl.Series(item_ids).dtype
    assert table.rows_of_codes(codes).tolist() == list(range(len(codes)))


@pytest.mark.parametrize("kind", [pl.Int32, pl.UInt16, pl.Int64])
def test_integers_of_any_width_come_back_as_they_were(tmp_path: Path, kind: type[pl.DataType]) -> None:
    table = tables(tmp_path, pl.Series([7, 300, 5], dtype=kind), different_codes(3))
    assert table.items_of(different_codes(3)).dtype == kind
    assert table.rows_of(pl.Series([5, 2**40, None])).tolist() == [2, -1, -1]
    assert table.rows_of([]).tolist() == []
    assert table.codes_of([]).shape == (0, 3)
    assert table.items_of(np.zeros((0, 3), int)).to_list() == []


def test_strings_with_the_same_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "hash_rows", lambda text_bytes, offsets: np.zeros(len(offsets) - 1, np.uint64))
    item_ids = ["ab", "a", "", "b", "ba", "äß", "商品"]
    codes = different_codes(len(item_ids))
    table = tables(tmp_path, pl.Series(item_ids), codes)
    assert table.rows_of([*item_ids, "abc", "c"]).tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert table.rows_of(pl.Series([None, "b"])).tolist() == [-1, 3]


@settings(max_examples=100)
@given(st.lists(st.text(max_size=8), max_size=80), st.integers(1, 7))
def test_hashes_depend_on_the_text_alone(texts: list[str], block: int) -> None:
    hashes = text_rows.hash_rows(*text_rows.to_bytes(pl.Series(texts, dtype=pl.String)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_rows, "BLOCK", block)
        parts = text_rows.to_bytes(pl.Series(texts, dtype=pl.String))
        np.testing.assert_array_equal(hashes, text_rows.hash_rows(*parts))
    assert text_rows.take(*parts, np.arange(len(texts))) == texts
    assert len(set(hashes.tolist())) == len(set(texts))  # no collision in so few


def test_wrong_questions_are_refused(tmp_path: Path) -> None:
    numbers = tables(tmp_path / "numbers", pl.Series([1, 2]), different_codes(2))
    strings = tables(tmp_path / "strings", pl.Series(["1", "2"]), different_codes(2))
    with pytest.raises(TokenizerError, match="are integers, those asked for are String"):
        numbers.codes_of(["1"])
    with pytest.raises(TokenizerError, match="are strings, those asked for are Int64"):
        strings.codes_of([1])
    with pytest.raises(TokenizerError, match="not all of one type"):
        strings.codes_of(["1", 2])  # type: ignore[list-item]
    with pytest.raises(TokenizerError, match=r"shape \[batch, 3\], got int64 \(1, 2\)"):
        numbers.items_of(np.zeros((1, 2), int))
    with pytest.raises(TokenizerError, match="integers or strings, these are Float64"):
        write_id_table(tmp_path / "floats", pl.Series([1.0]), different_codes(1))
    with pytest.raises(TokenizerError, match="holds no ID tables"):
        write_id_table(tmp_path, pl.Series([1]), different_codes(1))


def test_damage_is_noticed_when_the_tables_are_opened(tmp_path: Path) -> None:
    write_id_table(tmp_path / "whole", pl.Series(["a", "b"]), different_codes(2))
    arrays = sorted(path.name for path in (tmp_path / "whole").glob("*.npy"))
    assert len(arrays) == 6
    for name in [*arrays, DESCRIPTION_FILE]:
        folder = tmp_path / f"without {name}"
        write_id_table(folder, pl.Series(["a", "b"]), different_codes(2))
        whole = (folder / name).read_bytes()
        for damaged in (whole[:-1], whole[: len(whole) // 2], b""):
            (folder / name).write_bytes(damaged)
            if damaged == whole[:-1] and name == DESCRIPTION_FILE:
                continue  # only its last line break is gone
            with pytest.raises(TokenizerError, match=name):
                IdTable.open(folder)
        (folder / name).unlink()
        with pytest.raises(TokenizerError, match=name):
            IdTable.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 9}, "format 9"), ({"items": 5}, "for 5 items"), ({"id_type": 3}, "'id_type'")],
)
def test_a_description_that_does_not_fit_the_tables_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_id_table(tmp_path / "ids", pl.Series([1, 2]), different_codes(2))
    path = tmp_path / "ids" / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TokenizerError, match=message):
        IdTable.open(tmp_path / "ids")


def test_an_artefact_carries_its_tables(tmp_path: Path) -> None:
    codes = different_codes(5)
    ids = SemanticIds(pl.Series("film", ["e", "d", "c", "b", "a"]), codes, codes, [9, 9, 9])
    ids.save(tmp_path / "ids")
    table = IdTable.open(tmp_path / "ids" / TABLES_FOLDER)
    assert table.items_of(codes[[4, 0]]).to_list() == ["a", "e"]
    np.testing.assert_array_equal(table.codes_of(["a", "e"]), codes[[4, 0]])


def test_two_million_items_within_bounds_of_time_and_memory(tmp_path: Path) -> None:
    """Time and memory grow with the items, so a fifth of the ten million that the tables are meant for tells."""
    items = 2_000_000
    chosen = np.random.default_rng(0).permutation(128**3)[:items]
    codes = np.stack(np.unravel_index(chosen, (128,) * 3), axis=1).astype(np.int32)
    item_ids = pl.Series(np.random.default_rng(1).permutation(items)).cast(pl.String)
    before, started = peak_bytes(), time.process_time()
    write_id_table(tmp_path / "ids", item_ids, codes)
    assert time.process_time() - started < 10  # measured 1.3 on one core
    assert peak_bytes() - before < 400 * 2**20  # 24 MB of codes, 14 MB of ids, and what sorting them takes
    started = time.perf_counter()
    table = IdTable.open(tmp_path / "ids")
    assert time.perf_counter() - started < 0.25  # measured 0.006
    asked = np.random.default_rng(2).integers(items, size=10_000)
    started = time.perf_counter()
    np.testing.assert_array_equal(table.codes_of(item_ids.gather(asked)), codes[asked])
    assert (table.items_of(codes[asked]) == item_ids.gather(asked)).all()
    assert time.perf_counter() - started < 2.5  # measured 0.17
    ids = SemanticIds(item_ids, codes, codes, [128] * 3)
    started = time.process_time()
    ids.__post_init__()
    assert time.process_time() - started < 5  # measured 0.6


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
