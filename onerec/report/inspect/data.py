"""The data inside the inspection page: every item's columns, codes and neighbours, packed small.

Items are sorted by their IDs, so the items below a prefix are a range, and the page finds it by bisection. Numbers are base64
of little-endian arrays. A column with few different cells is those cells and an index.
"""

import base64
import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tokenizer.content.text import MISSING_WORDS
from tokenizer.quality.neighbours import nearest_items
from tokenizer.quality.prefixes import prefix_purity

SHOWN_ITEMS = 50_000  # beyond this the page shows an even sample of the items; counts are of all of them
LISTED = 6  # neighbours per item
WINDOW = 8  # items before and after one in the order of IDs that are considered for its neighbours by ID
LONGEST_CELL = 400  # characters of one cell that are shown
LABEL_VALUES = 2000  # a column of more different values names no groups that a reader could follow
LABEL_COLUMNS = 6
CONFUSED = 40  # entries in each list of confused items


@dataclass(frozen=True)
class Inspected:
    """The items of a tokenization in the order of their IDs.

    items: their table. title: its column that calls an item by name, or None. ids: their ids. codes_NL: unique IDs,
    sorted. quantizer_codes_NQ: before they were made unique. vectors_ND: what was quantized. error_N: squared distance
    to what the quantizer's codes stand for.
    """

    items: pl.DataFrame
    title: str | None
    ids: pl.Series
    codes_NL: np.ndarray
    quantizer_codes_NQ: np.ndarray
    vectors_ND: np.ndarray
    error_N: np.ndarray


def page_data(inspected: Inspected, id_column: str) -> dict[str, Any]:
    """Everything the page's script reads, as JSON values."""
    groups = collided_groups(inspected.quantizer_codes_NQ)
    far = np.argsort(-inspected.error_N, kind="stable")[:CONFUSED]
    shown_S = shown_rows(len(inspected.codes_NL), np.concatenate([far, *groups]))
    shown_items = inspected.items[shown_S]
    near_SK, cosine_SK = nearest_items(inspected.vectors_ND[shown_S], LISTED)
    tree_SK, tree_cosine_SK = neighbours_by_id(inspected.codes_NL[shown_S], inspected.vectors_ND[shown_S], LISTED)
    depth_SK = shared_depth(inspected.codes_NL[shown_S][:, None], inspected.codes_NL[shown_S][near_SK])
    names = [name for name in shown_items.columns if name != id_column]
    place = np.full(len(inspected.codes_NL), -1)
    place[shown_S] = np.arange(len(shown_S))
    mean_error = float(inspected.error_N.mean())
    return {
        "items": len(inspected.codes_NL),
        "levels": inspected.codes_NL.shape[1],
        "codes": packed(inspected.codes_NL),
        "shown": packed(shown_S),
        "ids": inspected.ids[shown_S].cast(pl.String).to_list(),
        "title": names.index(inspected.title) if inspected.title else -1,
        "columns": [packed_column(shown_items[name]) for name in names],
        "missing": MISSING_WORDS,
        "labels": [names.index(name) for name in label_columns(inspected)],
        "quantized": packed(inspected.quantizer_codes_NQ[shown_S]),
        "error": packed(np.round(100 * inspected.error_N[shown_S] / (mean_error or 1.0))),
        "near": {"each": near_SK.shape[1], "rows": packed(near_SK), "cosine": packed(hundredths(cosine_SK))},
        "tree": {"each": tree_SK.shape[1], "rows": packed(tree_SK), "cosine": packed(hundredths(tree_cosine_SK))},
        "collided": [place[group].tolist() for group in groups],
        "far": place[far].tolist(),
        "parted": parted_pairs(near_SK, cosine_SK, depth_SK),
        "kept": np.bincount(depth_SK[:, 0], minlength=inspected.codes_NL.shape[1]).tolist() if depth_SK.size else [],
    }


def shown_rows(items: int, wanted: np.ndarray) -> np.ndarray:
    """Rows that the page shows, in order: all, or an even sample and the wanted ones."""
    if items <= SHOWN_ITEMS:
        return np.arange(items)
    return np.union1d(np.linspace(0, items - 1, SHOWN_ITEMS).astype(np.int64), wanted)


def collided_groups(quantizer_codes_NQ: np.ndarray) -> list[np.ndarray]:
    """Rows of the items that the quantizer gave the same codes, the largest groups first."""
    _, group_N, count_G = np.unique(quantizer_codes_NQ, axis=0, return_inverse=True, return_counts=True)
    order_N = np.argsort(group_N.reshape(-1), kind="stable")
    start_G = np.concatenate([[0], np.cumsum(count_G)])
    largest = [group for group in np.argsort(-count_G, kind="stable")[:CONFUSED] if count_G[group] > 1]
    return [order_N[start_G[group] : start_G[group + 1]] for group in largest]


def shared_depth(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many first codes agree; codes stand on the last axis, the others broadcast."""
    return np.asarray(np.logical_and.accumulate(left == right, axis=-1).sum(axis=-1))


def neighbours_by_id(codes_NL: np.ndarray, vectors_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cosines of the k items that share the most first codes, among those the most similar vectors, [N,k].

    codes_NL must be sorted: items with the longest common prefix then stand side by side, and WINDOW of them on either
    side are looked at.
    """
    rows = np.arange(len(codes_NL))
    length_N = np.linalg.norm(vectors_ND, axis=1)
    columns = []
    for offset in (step for step in range(-WINDOW, WINDOW + 1) if step):
        other = np.clip(rows + offset, 0, len(rows) - 1)
        scale = length_N * length_N[other]
        product = np.einsum("nd,nd->n", vectors_ND, vectors_ND[other])
        cosine = np.divide(product, scale, out=np.zeros(len(rows)), where=scale > 0)
        depth = shared_depth(codes_NL, codes_NL[other])
        inside = (rows + offset >= 0) & (rows + offset < len(rows))
        columns.append((other, cosine, np.where(inside, depth, -1)))
    other_NW, cosine_NW, depth_NW = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    k = min(k, len(rows) - 1)
    best_NK = np.argsort(-(2.0 * depth_NW + cosine_NW / 2), axis=1, kind="stable")[:, :k]  # |cosine| / 2 < 1 < a code
    return np.take_along_axis(other_NW, best_NK, axis=1), np.take_along_axis(cosine_NW, best_NK, axis=1)


def parted_pairs(near_SK: np.ndarray, cosine_SK: np.ndarray, depth_SK: np.ndarray) -> list[list[int]]:
    """The most similar pairs of items, each the other's nearest or not, whose IDs begin with different codes."""
    row_P, column_P = np.nonzero(depth_SK == 0)
    other_P, cosine_P = near_SK[row_P, column_P], cosine_SK[row_P, column_P]
    pairs: list[list[int]] = []
    seen: set[int] = set()
    for index in np.argsort(-cosine_P, kind="stable").tolist():
        left, right = int(row_P[index]), int(other_P[index])
        if left in seen or right in seen:  # one item apart from a whole cluster would fill the list
            continue
        seen |= {left, right}
        pairs.append([left, right, round(100 * float(cosine_P[index]))])
        if len(pairs) == CONFUSED:
            break
    return pairs


def label_columns(inspected: Inspected) -> list[str]:
    """Columns whose values name groups of items: words before numbers, and those first that first codes tell apart best.

    Of two columns that say the same, such as a category's name and its number, one is kept.
    """
    scored = []
    for name in inspected.items.columns:
        labels = None if name == inspected.title else label_values(inspected.items[name])
        if labels is None:
            continue
        first = prefix_purity(inspected.codes_NL[:, :1], labels, permutations=2)[0]
        numbers = bool(labels.drop_nulls().str.contains(r"^[-\d\s,.|]+$").all())
        scored.append((numbers, -first["adjusted"] * first["items"] / len(labels), name, labels))
    kept: dict[str, pl.Series] = {}
    for *_, name, labels in sorted(scored, key=lambda entry: entry[:3]):
        if len(kept) < LABEL_COLUMNS and not any(same_groups(labels, other) for other in kept.values()):
            kept[name] = labels
    return list(kept)


def same_groups(left: pl.Series, right: pl.Series) -> bool:
    """Whether two columns name the same groups wherever both say something."""
    both = pl.DataFrame({"left": left, "right": right}).drop_nulls()
    return both.n_unique() == both["left"].n_unique() == both["right"].n_unique()


def label_values(column: pl.Series) -> pl.Series | None:
    """The cells as labels, null where they say there is nothing; None when they name no groups."""
    if column.dtype.is_nested() or column.dtype.is_float():
        return None
    cells = column.cast(pl.String).str.strip_chars()
    labels = cells.set(cells.str.to_lowercase().is_in(MISSING_WORDS).fill_null(True), None)
    values = labels.drop_nulls().n_unique()
    return labels if 2 <= values <= min(LABEL_VALUES, len(labels) // 3) else None


def packed_column(column: pl.Series) -> dict[str, Any]:
    """A column's name and cells as text: the cells themselves, or the different ones and where each stands."""
    if column.dtype.is_nested():
        text = pl.Series([str(cell.to_list() if isinstance(cell, pl.Series) else cell) for cell in column])
    else:
        text = column.cast(pl.String)
    # shops write names with HTML entities, and the script sets plain text, so they would be shown as they are written
    if text.str.contains("&", literal=True).any():
        text = pl.Series([html.unescape(cell) for cell in text.fill_null("")], dtype=pl.String)
    text = text.fill_null("").to_frame("cell").select(
        pl.when(pl.col("cell").str.len_chars() > LONGEST_CELL)
        .then(pl.col("cell").str.head(LONGEST_CELL) + "…")
        .otherwise("cell")
    )["cell"]  # fmt: skip
    values = text.unique(maintain_order=True)
    if 2 * len(values) > len(text):
        return {"name": column.name, "cells": text.to_list()}
    index = text.to_frame("cell").join(
        values.to_frame("cell").with_row_index("index"), on="cell", how="left", maintain_order="left"
    )
    return {"name": column.name, "values": values.to_list(), "index": packed(index["index"].to_numpy())}


def hundredths(cosine: np.ndarray) -> np.ndarray:
    """Cosines as whole numbers 0..200, 100 for zero: nothing below zero travels."""
    return np.round(100 * cosine.clip(-1, 1)) + 100


def packed(numbers: np.ndarray) -> dict[str, str]:
    """Whole numbers from zero as base64 of the narrowest of uint8, uint16 and uint32; row after row."""
    numbers = np.asarray(numbers)
    largest = int(numbers.max(initial=0))
    kind, name = ("<u1", "u8") if largest < 1 << 8 else ("<u2", "u16") if largest < 1 << 16 else ("<u4", "u32")
    return {name: base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode("ascii")}
