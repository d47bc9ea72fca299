"""Item to ID and ID to item from disk: flat arrays that are mapped into memory, not read.

Opening takes milliseconds whatever the size, processes share the pages, and a lookup touches few of them. Lookups work on
batches with array operations: binary search over item ids (or a hash of theirs, for strings) and over codes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from tokenizer import text_rows
from tokenizer.common.files import replacing_folder
from tokenizer.errors import TokenizerError
from tokenizer.unique.id_order import sort_keys

DESCRIPTION_FILE = "id_table.json"
FORMAT_VERSION = 1
COMMON_ARRAYS = ("codes", "rows_by_codes", "sorted_keys", "rows_by_key")
INTEGER_ARRAYS = ("item_ids",)
TEXT_ARRAYS = ("item_id_bytes", "item_id_offsets")


def write_id_table(folder: Path, item_ids: pl.Series, codes_NL: np.ndarray) -> None:
    """Write the tables of N items into `folder`, replacing tables already there as a whole.

    item_ids: integers or strings without nulls, all different. codes_NL: int32 [N,L], all rows different.
    TokenizerError for ids of another type, or when `folder` holds something else.
    """
    arrays: dict[str, np.ndarray] = {"codes": np.ascontiguousarray(codes_NL, dtype=np.int32)}
    if item_ids.dtype == pl.String:
        arrays["item_id_bytes"], arrays["item_id_offsets"] = text_rows.to_bytes(item_ids)
        key_N = text_rows.hash_rows(arrays["item_id_bytes"], arrays["item_id_offsets"])
    elif item_ids.dtype.is_integer():
        key_N = arrays["item_ids"] = item_ids.cast(pl.Int64).to_numpy()
    else:
        raise TokenizerError(f"item ids: they must be integers or strings, these are {item_ids.dtype}; convert them.")
    row_type = np.int32 if len(codes_NL) < 2**31 else np.int64
    arrays["rows_by_key"] = np.argsort(key_N).astype(row_type)
    arrays["sorted_keys"] = key_N[arrays["rows_by_key"]]
    arrays["rows_by_codes"] = np.argsort(sort_keys(arrays["codes"])).astype(row_type)
    with replacing_folder(folder, DESCRIPTION_FILE, "ID tables") as written:
        for name, array in arrays.items():
            np.save(written / f"{name}.npy", array)
        description = {
            "format": FORMAT_VERSION,
            "items": len(codes_NL),
            "id_type": str(item_ids.dtype),
            "bytes": {name: (written / f"{name}.npy").stat().st_size for name in arrays},
        }
        (written / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


class IdTable:
    """Opened tables; `IdTable.open` makes one. `items`: how many there are; `levels`: codes per ID."""

    def __init__(self, arrays: dict[str, np.ndarray], id_type: Any) -> None:
        self._arrays, self._id_type = arrays, id_type
        self.items, self.levels = arrays["codes"].shape

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the tables in `folder`, which is `tables/` inside an artefact of semantic IDs.

        Format, sizes, types and shapes are checked; the content is not read. TokenizerError names what does not fit.
        """
        folder = Path(folder)
        description = _read_description(folder / DESCRIPTION_FILE)
        is_text = description["id_type"] == "String"
        arrays = {}
        for name in (*COMMON_ARRAYS, *(TEXT_ARRAYS if is_text else INTEGER_ARRAYS)):
            path = folder / f"{name}.npy"
            if not path.is_file() or path.stat().st_size != description["bytes"].get(name):
                raise TokenizerError(f"{path}: missing, or not of the size it was written with; tokenize again.")
            try:
                arrays[name] = np.load(path, mmap_mode="r")
            except (ValueError, OSError) as error:
                raise TokenizerError(f"{path}: cannot be mapped ({error}); tokenize again.") from error
        items = description["items"]
        wanted = {"codes": (items, arrays["codes"].shape[-1]), "item_id_offsets": (items + 1,)}
        wanted["item_id_bytes"] = arrays["item_id_bytes"].shape if is_text else ()
        for name, array in arrays.items():
            if array.shape != wanted.get(name, (items,)):
                raise TokenizerError(f"{folder / name}.npy: shape {array.shape} for {items} items; tokenize again.")
        return cls(arrays, getattr(pl, description["id_type"]))

    def codes_of(self, item_ids: pl.Series | Sequence[int] | Sequence[str]) -> np.ndarray:
        """IDs of items, int32 [B,L]; -1 throughout for an item that is not in the table."""
        rows_B = self.rows_of(item_ids)
        codes_BL = np.asarray(self._arrays["codes"][np.maximum(rows_B, 0)])
        codes_BL[rows_B < 0] = -1
        return codes_BL

    def items_of(self, codes_BL: np.ndarray) -> pl.Series:
        """Item ids of IDs; null where no item has those codes. TokenizerError for another number of levels."""
        rows_B = self.rows_of_codes(codes_BL)
        rows, found = np.maximum(rows_B, 0), pl.Series(rows_B >= 0)
        if self._id_type == pl.String:
            texts = text_rows.take(self._arrays["item_id_bytes"], self._arrays["item_id_offsets"], rows)
            item_ids = pl.Series(texts, dtype=pl.String)
        else:
            item_ids = pl.Series(np.asarray(self._arrays["item_ids"][rows])).cast(self._id_type)
        return pl.select(pl.when(found).then(item_ids).alias("item_id")).to_series()

    def rows_of(self, item_ids: pl.Series | Sequence[int] | Sequence[str]) -> np.ndarray:
        """Rows of items in the items table, int64 [B]; -1 for an item that is not there.

        TokenizerError for ids of another type than the table's.
        """
        asked = self._as_ids(item_ids)
        if self._id_type == pl.String:
            texts = text_rows.to_bytes(asked.fill_null(""))
            key_B = text_rows.hash_rows(*texts)
        else:
            key_B = asked.fill_null(0).to_numpy()
        sorted_keys, rows_by_key = self._arrays["sorted_keys"], self._arrays["rows_by_key"]
        rows_B = np.full(len(key_B), -1, dtype=np.int64)
        position_B = np.searchsorted(sorted_keys, key_B)
        open_ones = np.flatnonzero(asked.is_not_null().to_numpy())
        while len(open_ones):  # once, and again only for different strings with the same hash
            position = np.minimum(position_B[open_ones], self.items - 1)
            inside = (position_B[open_ones] < self.items) & (sorted_keys[position] == key_B[open_ones])
            open_ones, position = open_ones[inside], position[inside]
            candidate = np.asarray(rows_by_key[position], dtype=np.int64)
            same = np.ones(len(candidate), dtype=bool)
            if self._id_type == pl.String:
                stored = (self._arrays["item_id_bytes"], self._arrays["item_id_offsets"])
                same = text_rows.equal_rows(stored, candidate, texts, open_ones)
            rows_B[open_ones[same]] = candidate[same]
            open_ones = open_ones[~same]
            position_B[open_ones] += 1
        return rows_B

    def rows_of_codes(self, codes_BL: np.ndarray) -> np.ndarray:
        """Rows of the items that have these IDs, int64 [B]; -1 where no item has."""
        codes_BL = np.asarray(codes_BL)
        if codes_BL.ndim != 2 or codes_BL.shape[1] != self.levels or not np.issubdtype(codes_BL.dtype, np.integer):
            raise TokenizerError(
                f"codes: expected whole numbers of shape [batch, {self.levels}], got {codes_BL.dtype} {codes_BL.shape}."
            )
        stored, rows_by_codes = self._arrays["codes"], self._arrays["rows_by_codes"]
        low_B, high_B = np.zeros(len(codes_BL), dtype=np.int64), np.full(len(codes_BL), self.items, dtype=np.int64)
        while (low_B < high_B).any():  # one binary search for the whole batch, comparing code by code
            middle_B = (low_B + high_B) // 2
            there_BL = stored[rows_by_codes[np.minimum(middle_B, self.items - 1)]]
            first_B1 = (there_BL != codes_BL).argmax(axis=1)[:, None]
            less_B = np.take_along_axis(there_BL, first_B1, 1)[:, 0] < np.take_along_axis(codes_BL, first_B1, 1)[:, 0]
            less_B &= low_B < high_B
            low_B, high_B = np.where(less_B, middle_B + 1, low_B), np.where(less_B, high_B, middle_B)
        rows_B = np.asarray(rows_by_codes[np.minimum(low_B, self.items - 1)], dtype=np.int64)
        return np.where((stored[rows_B] == codes_BL).all(axis=1), rows_B, -1)

    def _as_ids(self, item_ids: pl.Series | Sequence[int] | Sequence[str]) -> pl.Series:
        """The ids asked for as strings or int64."""
        try:
            asked = item_ids if isinstance(item_ids, pl.Series) else pl.Series("item_id", item_ids)
        except (TypeError, OverflowError) as error:
            raise TokenizerError(f"item ids: not all of one type ({error}).") from error
        wanted = "strings" if self._id_type == pl.String else "integers"
        if asked.dtype == pl.Null:
            return asked.cast(pl.String if wanted == "strings" else pl.Int64)
        if asked.dtype != pl.String if wanted == "strings" else not asked.dtype.is_integer():
            raise TokenizerError(f"item ids: this table's are {wanted}, those asked for are {asked.dtype}.")
        return asked if wanted == "strings" else asked.cast(pl.Int64)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TokenizerError(f"{path}: not found; `onerec tokenize` writes ID tables beside the IDs.") from error
    except (ValueError, OSError) as error:
        raise TokenizerError(f"{path}: is not readable JSON ({error}); tokenize again.") from error
    kinds = {"format": int, "items": int, "id_type": str, "bytes": dict}
    for key, kind in kinds.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise TokenizerError(f"{path}: the key {key!r} is missing or of the wrong type; tokenize again.")
    if description["format"] != FORMAT_VERSION:
        raise TokenizerError(
            f"{path}: format {description['format']}, this version reads {FORMAT_VERSION}; tokenize again."
        )
    return dict(description)
