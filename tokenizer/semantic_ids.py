"""The semantic IDs of all items, saved as a folder with the quantizer and the quality figures."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from tokenizer.common.checks import check_codes, check_level_sizes
from tokenizer.common.files import replacing_folder
from tokenizer.errors import TokenizerError
from tokenizer.unique.id_order import all_different

DESCRIPTION_FILE = "semantic_ids.json"
CODES_FILE = "item_codes.parquet"
QUANTIZER_FILE = "quantizer.safetensors"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SemanticIds:
    """Unique IDs of all items, and the quantizer that made them.

    item_ids: the dataset's item ids in the order of its items table. codes_NL: int32 [N,L], all rows different.
    quantizer_codes_NQ: int32 [N,Q] before collisions were resolved. level_sizes: codes per level of codes_NL.
    quality: figures of `tokenizer.quality.figures`. config: method, settings and source of the IDs, plain JSON values.
    quantizer_state: the quantizer's learnt arrays. Raises TokenizerError when the parts do not fit together.
    """

    item_ids: pl.Series
    codes_NL: np.ndarray
    quantizer_codes_NQ: np.ndarray
    level_sizes: list[int]
    quality: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    quantizer_state: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        items = len(self.item_ids)
        if items == 0 or self.item_ids.null_count() or self.item_ids.n_unique() != items:
            raise TokenizerError("item_ids: expected at least one item, without nulls and duplicates.")
        check_level_sizes(self.level_sizes)
        check_codes(self.codes_NL, self.level_sizes)
        if len(self.codes_NL) != items or len(self.quantizer_codes_NQ) != items:
            raise TokenizerError(
                f"{items} item ids, but {len(self.codes_NL)} IDs and {len(self.quantizer_codes_NQ)} quantizer codes."
            )
        if not all_different(self.codes_NL):
            raise TokenizerError(
                "codes: two items share a semantic ID; resolve collisions with tokenizer.unique first."
            )

    def save(self, folder: Path) -> None:
        """Write the semantic IDs; a folder of semantic IDs at this place is replaced as a whole.

        The new folder is written beside it and then renamed. TokenizerError when `folder` contains something else.
        """
        from safetensors.numpy import save_file

        lists = {"codes": _as_lists(self.codes_NL), "quantizer_codes": _as_lists(self.quantizer_codes_NQ)}
        description = {
            "format": FORMAT_VERSION,
            "items": len(self.item_ids),
            "level_sizes": list(self.level_sizes),
            "quality": self.quality,
            "config": self.config,
        }
        state = {name: np.ascontiguousarray(array) for name, array in self.quantizer_state.items()}
        with replacing_folder(folder, DESCRIPTION_FILE, "semantic IDs") as written:
            pl.DataFrame({"item_id": self.item_ids.alias("item_id"), **lists}).write_parquet(written / CODES_FILE)
            save_file(state, written / QUANTIZER_FILE)
            (written / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and check a saved folder; TokenizerError names a file that is missing, damaged or does not fit."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        for name in (DESCRIPTION_FILE, CODES_FILE, QUANTIZER_FILE):
            if not (folder / name).is_file():
                raise TokenizerError(f"{folder / name}: not found; make semantic IDs with `onerec tokenize` first.")
        description = _read_description(folder / DESCRIPTION_FILE)
        item_ids, codes_NL, quantizer_codes_NQ = _read_codes(folder / CODES_FILE)
        try:
            state = load_file(folder / QUANTIZER_FILE)
        except (SafetensorError, OSError, ValueError) as error:
            raise TokenizerError(f"{folder / QUANTIZER_FILE}: cannot be read ({error}); tokenize again.") from error
        if len(item_ids) != description["items"]:
            raise TokenizerError(
                f"{folder / CODES_FILE}: {len(item_ids)} items, but {DESCRIPTION_FILE} says {description['items']}; "
                "the folder mixes files of two tokenizations, tokenize again."
            )
        try:
            return cls(
                item_ids=item_ids,
                codes_NL=codes_NL,
                quantizer_codes_NQ=quantizer_codes_NQ,
                level_sizes=description["level_sizes"],
                quality=description["quality"],
                config=description["config"],
                quantizer_state=state,
            )
        except TokenizerError as error:
            raise TokenizerError(f"{folder / CODES_FILE}: {error}") from error


def _as_lists(codes_NL: np.ndarray) -> pl.Series:
    array = np.ascontiguousarray(codes_NL, dtype=np.int32)
    return pl.Series(array, dtype=pl.Array(pl.Int32, array.shape[1])).arr.to_list()


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise TokenizerError(f"{path}: is not readable JSON ({error}); tokenize again.") from error
    kinds = {"format": int, "items": int, "level_sizes": list, "quality": dict, "config": dict}
    for key, kind in kinds.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise TokenizerError(f"{path}: the key {key!r} is missing or of the wrong type; tokenize again.")
    if not description["level_sizes"] or not all(
        isinstance(size, int) and size > 0 for size in description["level_sizes"]
    ):
        raise TokenizerError(f"{path}: level_sizes should be whole numbers above zero; tokenize again.")
    if description["format"] != FORMAT_VERSION:
        raise TokenizerError(
            f"{path}: has format {description['format']}, but this version reads {FORMAT_VERSION}; tokenize again."
        )
    return dict(description)


def _read_codes(path: Path) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TokenizerError(f"{path}: is not readable Parquet ({error}); tokenize again.") from error
    for column in ("item_id", "codes", "quantizer_codes"):
        if column not in table.columns:
            raise TokenizerError(f"{path}: column {column!r} is missing; tokenize again.")
    arrays = []
    for lists in (table["codes"], table["quantizer_codes"]):
        named = f"{path}: column {lists.name!r}"
        if not isinstance(lists.dtype, pl.List) or not lists.dtype.inner.is_integer():
            raise TokenizerError(f"{named} should hold lists of whole numbers but holds {lists.dtype}; tokenize again.")
        codes = lists.explode()
        if lists.null_count() or lists.list.len().n_unique() > 1 or codes.null_count():
            raise TokenizerError(f"{named} should hold lists of equal length without nulls; tokenize again.")
        arrays.append(codes.to_numpy().reshape(len(table), -1).astype(np.int32))
    return table["item_id"], arrays[0], arrays[1]
