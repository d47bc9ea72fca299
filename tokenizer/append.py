"""Add new items: they get IDs from the fitted quantizer, and no published ID changes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from tokenizer.common.checks import check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quality.landing import landing_figures, reconstruction_error
from tokenizer.quantizers import Quantizer
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import load_quantizer
from tokenizer.unique.collisions import extra_error, numbers_within_groups
from tokenizer.unique.free_ids import CodeSpace, settle
from tokenizer.unique.id_order import group_numbers, sort_keys

LAST_RESORT = np.float32(1e30)  # price of codes without a codebook row, so that they are used last


def append_items(
    ids: SemanticIds,
    new_ids: pl.Series,
    new_vectors_MD: np.ndarray,
    *,
    old_sample: tuple[np.ndarray, np.ndarray] | None = None,
) -> SemanticIds:
    """Add M items: the old rows stay unchanged and in their order, and the new rows follow.

    new_vectors_MD: one row per new id, in the space that the quantizer was fitted on. Each item wishes for its codes. Among
    items that wish for the same free ID, the closest gets it. The others take the nearest free code of the last level under
    their prefix or, if it is full, a place under the nearest prefix with room. If too few IDs are free, the last level grows
    by as few codes as necessary. With an appended code, the numbers of each group continue.

    A report is added to the list `quality["appended"]`: `items`, `items_before`, `moved` (new items that did not get their
    own codes; with an appended code, items numbered above zero), `extra_error` (see UniqueCodes), `last_level_grew_by`,
    `reconstruction_error` of the new items, and `reconstruction_error_before` of the fitted ones (None if unknown).
    old_sample: rows of old items and their vectors, made in the same way as the new vectors. With it, the report says under
    `neighbours` how often a new item has the prefix of a similar old one, see `tokenizer.quality.landing`. All other figures
    of `quality` are still those of the fit; a note mentions growth of the last level.

    Raises TokenizerError for ids that exist already, are null or duplicated (naming one) or of another type, and for unusable
    vectors.
    """
    new_ids = _checked_ids(ids.item_ids, new_ids)
    vectors_MD = check_vectors(new_vectors_MD, "vectors of new items")
    if len(vectors_MD) != len(new_ids):
        raise TokenizerError(f"{len(vectors_MD)} vectors for {len(new_ids)} new item ids; give one vector per item.")
    quantizer = load_quantizer(ids)
    wishes_MQ = quantizer.encode_new(vectors_MD)
    if ids.codes_NL.shape[1] > wishes_MQ.shape[1]:
        new_ML = _numbered(ids.codes_NL, wishes_MQ)
        level_sizes = [*ids.level_sizes[:-1], max(ids.level_sizes[-1], int(new_ML[:, -1].max()) + 1)]
        moved, error = int((new_ML[:, -1] > 0).sum()), 0.0
    else:
        level_sizes = with_room(ids.level_sizes, len(ids.codes_NL) + len(wishes_MQ))
        space = _grown_space(quantizer, vectors_MD, level_sizes[-1])
        new_ML = settle(wishes_MQ, space, level_sizes, ids.codes_NL)
        moved, error = int((new_ML != wishes_MQ).any(axis=1).sum()), extra_error(wishes_MQ, new_ML, space)
    report: dict[str, Any] = {
        "items": len(new_ids),
        "items_before": len(ids.item_ids),
        "moved": moved,
        "extra_error": error,
        "last_level_grew_by": level_sizes[-1] - ids.level_sizes[-1],
        "reconstruction_error": reconstruction_error(quantizer, vectors_MD, wishes_MQ),
        "reconstruction_error_before": ids.quality.get("reconstruction", {}).get("mean_squared_error"),
    }
    if old_sample is not None:
        old_rows_S, old_vectors_SD = old_sample
        report["neighbours"] = landing_figures(new_ML, vectors_MD, ids.codes_NL[old_rows_S], old_vectors_SD)
    return SemanticIds(
        item_ids=pl.concat([ids.item_ids, new_ids]),
        codes_NL=np.concatenate([ids.codes_NL, new_ML]),
        quantizer_codes_NQ=np.concatenate([ids.quantizer_codes_NQ, wishes_MQ]),
        level_sizes=level_sizes,
        quality=_reported(ids, report, level_sizes),
        config=ids.config,
        quantizer_state=ids.quantizer_state,
    )


def in_order_of(ids: SemanticIds, item_ids: pl.Series) -> SemanticIds:
    """The same semantic IDs with rows in the order of `item_ids`, which must be the same items.

    TokenizerError names an item that is missing on one side.
    """
    known = pl.DataFrame({"item_id": ids.item_ids, "row": np.arange(len(ids.item_ids))})
    row = known.join(item_ids.alias("item_id").to_frame(), on="item_id", how="right", maintain_order="right")["row"]
    if row.null_count():
        raise TokenizerError(f"item {item_ids.filter(row.is_null())[0]!r} has no semantic ID yet; append it first.")
    if len(row) < len(known):
        lost = known.join(item_ids.alias("item_id").to_frame(), on="item_id", how="anti", maintain_order="left")
        raise TokenizerError(f"item {lost['item_id'][0]!r} has a semantic ID but is missing from the given items.")
    rows_N = row.to_numpy()
    return replace(
        ids,
        item_ids=ids.item_ids.gather(rows_N),
        codes_NL=ids.codes_NL[rows_N],
        quantizer_codes_NQ=ids.quantizer_codes_NQ[rows_N],
    )


def with_room(level_sizes: list[int], items: int) -> list[int]:
    """The level sizes with the last one just large enough for every item to have an ID."""
    prefixes = math.prod(level_sizes[:-1])
    return [*level_sizes[:-1], max(level_sizes[-1], -(-items // prefixes))]


def format_report(report: dict[str, Any]) -> str:
    """A report of `quality["appended"]` as plain lines for the terminal."""
    lines = [
        f"appended         {report['items']:,} items to {report['items_before']:,}; no ID changed",
        f"moved            {report['moved']:,} of them did not get the codes they were encoded to "
        f"(error {report['extra_error']:+.1%})",
    ]
    before = report["reconstruction_error_before"]
    compared = f", {before:.5g} for the fitted items" if before is not None else ""
    lines.append(f"reconstruction   mean squared error {report['reconstruction_error']:.5g}{compared}")
    if figures := report.get("neighbours"):
        for depth, (share, chance) in enumerate(zip(figures["same_prefix"], figures["chance"], strict=True), start=1):
            lines.append(
                f"{'neighbours' if depth == 1 else '':<17}{share:.1%} begin with the same {depth} "
                f"code{'s' if depth > 1 else ''} as one of the {figures['k']} most similar old items ({chance:.1%} by chance)"
            )
    if report["last_level_grew_by"]:
        lines.append(f"note             the last level grew by {report['last_level_grew_by']} codes; train again")
    return "\n".join(lines)


def _checked_ids(old: pl.Series, new: pl.Series) -> pl.Series:
    """Return the new ids in the type of the old ones; TokenizerError unless all of them are new and different."""
    if not len(new):
        raise TokenizerError("new items: there are none; pass at least one id.")
    if new.dtype != old.dtype and not (new.dtype.is_integer() and old.dtype.is_integer()):
        raise TokenizerError(f"new items: their ids are {new.dtype}, but the ids of the old items are {old.dtype}.")
    if new.null_count():
        raise TokenizerError(f"new items: the id at row {new.is_null().arg_max()} is null.")
    new = new.alias(old.name).cast(old.dtype)
    repeated = new.filter(new.is_duplicated())
    if len(repeated):
        raise TokenizerError(f"new items: {repeated[0]!r} occurs twice.")
    known = old.filter(old.is_in(new.implode()))
    if len(known):
        raise TokenizerError(f"new items: {known[0]!r} already has a semantic ID ({len(known)} such items).")
    return new


def _numbered(old_NL: np.ndarray, wishes_MQ: np.ndarray) -> np.ndarray:
    """The wishes with numbers that continue those of the old items with the same codes, int32 [M,Q+1]."""
    key = sort_keys(np.concatenate([old_NL[:, :-1], wishes_MQ]))
    group = group_numbers(key)
    next_G = np.zeros(int(group.max()) + 1, dtype=np.int64)
    np.maximum.at(next_G, group[: len(old_NL)], old_NL[:, -1] + 1)
    new_group_M = group[len(old_NL) :]
    number_M = next_G[new_group_M] + numbers_within_groups(new_group_M)
    return np.column_stack([wishes_MQ, number_M]).astype(np.int32)


def _grown_space(quantizer: Quantizer, vectors_MD: np.ndarray, last_size: int) -> CodeSpace:
    """The quantizer's code space; added last-level codes have a zero codebook row and a price, so that they come last."""
    *upper, last_VW = quantizer.codebooks
    grown_VW = np.zeros((last_size, last_VW.shape[1]), dtype=np.float32)
    grown_VW[: len(last_VW)] = last_VW
    price_V = np.zeros(last_size, dtype=np.float32)
    price_V[len(last_VW) :] = LAST_RESORT
    return CodeSpace(quantizer.latent(vectors_MD), [*upper, grown_VW], price_V)


def _reported(ids: SemanticIds, report: dict[str, Any], level_sizes: list[int]) -> dict[str, Any]:
    notes = list(ids.quality.get("notes", []))
    if report["last_level_grew_by"]:
        notes.append(
            f"the last level grew from {ids.level_sizes[-1]} to {level_sizes[-1]} codes when {report['items']} items were "
            "appended; a generator trained before cannot generate the new codes"
        )
    return {**ids.quality, "notes": notes, "appended": [*ids.quality.get("appended", []), report]}
