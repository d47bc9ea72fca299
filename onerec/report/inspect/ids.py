"""The page that shows semantic IDs: the tree of prefixes, neighbours by vector and by ID, and confused items.

It is a single HTML file that needs no network, made from what `onerec tokenize` wrote and the table of items.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from onerec.data.split import rows_of
from onerec.errors import UserError
from onerec.files import write_text
from onerec.report.codebook import level_panels
from onerec.report.inspect.data import SHOWN_ITEMS, Inspected, label_columns, label_values, page_data
from onerec.report.page import render_template
from onerec.report.values import count, in_words
from onerec.run.results import semantic_id_facts
from onerec.run.run import Run
from onerec.run.stages.semantic_ids import SemanticIdsStage, item_encoder, semantic_ids
from tokenizer.quality.prefixes import prefix_purity
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import load_quantizer

DECODED_ROWS = 1 << 14


def write_page(run: Run) -> Path:
    """Write `inspect.html` beside the semantic IDs of the run and return its path; nothing is tokenized anew.

    Catalogues beyond 50,000 items are shown as an even sample, with counts of all items; the page says so.

    Raises:
        TokenizerError: the run has no semantic IDs, or they are damaged.
        UserError: its item encoder is damaged, or an item with an ID is missing from the dataset.
    """
    ids = semantic_ids(run)
    row_N = rows_of(ids.item_ids, run.item_ids)
    if missing := int((row_N < 0).sum()):
        example = ids.item_ids[int(np.flatnonzero(row_N < 0)[0])]
        raise UserError(
            f"{run.dataset.folder}: {missing} items with a semantic ID are not in items.parquet any more, "
            f"{example} for one; put them back, or tokenize again"
        )
    page = render_page(
        ids,
        vectors_of(run, row_N),
        run.dataset.items[row_N],
        title=run.config.name,
        text_columns=run.dataset.spec.items.text,
        id_column=run.dataset.spec.items.id,
    )
    target = run.folder / SemanticIdsStage.name / "inspect.html"
    write_text(target, page)
    return target


def vectors_of(run: Run, row_N: np.ndarray) -> np.ndarray:
    """The vectors that the IDs were made from; row_N: rows of the items table, those that joined later come last."""
    encoder = item_encoder(run)
    joined = row_N[len(encoder.vectors_ND) :]
    if not len(joined):
        return encoder.vectors_ND
    return np.concatenate([encoder.vectors_ND, encoder.encode_new(run.dataset.items, run.dataset.folder, joined)])


def render_page(
    ids: SemanticIds,
    vectors_ND: np.ndarray,
    items: pl.DataFrame,
    *,
    title: str,
    text_columns: list[str],
    id_column: str,
) -> str:
    """The whole page as text. vectors_ND and items: one row per item, in the order of `ids`."""
    quantizer = load_quantizer(ids)
    error_N = np.concatenate(
        [
            np.square(vectors_ND[rows] - quantizer.decode(ids.quantizer_codes_NQ[rows])).sum(axis=1)
            for rows in (slice(start, start + DECODED_ROWS) for start in range(0, len(vectors_ND), DECODED_ROWS))
        ]
    )
    order_N = np.lexsort(ids.codes_NL.T[::-1])
    inspected = Inspected(
        items=items[order_N],
        title=text_columns[0] if text_columns else None,
        ids=ids.item_ids[order_N],
        codes_NL=ids.codes_NL[order_N],
        quantizer_codes_NQ=ids.quantizer_codes_NQ[order_N],
        vectors_ND=vectors_ND[order_N],
        error_N=error_N[order_N],
    )
    data = page_data(inspected, id_column)
    return render_template(
        "ids.html.jinja",
        title=title,
        items=len(ids.item_ids),
        shown=len(data["ids"]),
        sampled=len(ids.item_ids) > SHOWN_ITEMS,
        method=str(ids.config.get("method", "unknown")),
        unique=str(ids.config.get("unique", "unknown")),
        sizes=in_words([count(size) for size in ids.level_sizes]),
        quality=ids.quality,
        levels=level_panels(semantic_id_facts(ids)),
        kept=data["kept"],
        meanings=meanings(inspected),
        data=embedded(data),
    )


def embedded(data: dict[str, Any]) -> Markup:
    """JSON that may stand inside a script element: no cell can close the element or open a comment."""
    return Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def meanings(inspected: Inspected) -> list[dict[str, Any]]:
    """Per column that names groups: how pure prefixes are in it, by depth, beside chance. Full IDs are left out."""
    rows = []
    depth = inspected.codes_NL.shape[1] - 1
    for name in label_columns(inspected):
        labels = label_values(inspected.items[name])
        if labels is not None and depth:
            figures = prefix_purity(inspected.codes_NL[:, :depth], labels, permutations=3)
            rows.append({"name": name, "labels": figures[0]["labels"], "items": figures[0]["items"], "depths": figures})
    return rows
