"""One page to look at semantic IDs with: the tree of prefixes, neighbours by vector and by ID, what was confused.

The page is a single HTML file that needs no network, drawn from what `onerec tokenize` left behind and the items table.
"""

import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
from markupsafe import Markup

from onerec.data.split import rows_of
from onerec.errors import UserError
from onerec.files import write_text
from onerec.report import charts
from onerec.report.inspect.data import SHOWN_ITEMS, Inspected, label_columns, label_values, page_data
from onerec.report.values import count, in_words, percent
from onerec.run.run import Run
from onerec.run.stages.semantic_ids import SemanticIdsStage, item_encoder, semantic_ids
from tokenizer.quality.prefixes import prefix_purity
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import load_quantizer

HERE = Path(__file__).parent
SCRIPTS = ("items.js", "ids.js")
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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": count, "percent": percent}
    return environment.get_template("ids.html.jinja").render(
        title=title,
        items=len(ids.item_ids),
        shown=len(data["ids"]),
        sampled=len(ids.item_ids) > SHOWN_ITEMS,
        method=str(ids.config.get("method", "unknown")),
        unique=str(ids.config.get("unique", "unknown")),
        sizes=in_words([f"{size:,}" for size in ids.level_sizes]),
        quality=ids.quality,
        levels=level_panels(ids),
        figures=figures_in_words(ids.quality, data["kept"]),
        meanings=meanings(inspected),
        style=Markup((HERE / "ids.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        data=embedded(data),
    )


def embedded(data: dict[str, Any]) -> Markup:
    """JSON that may stand inside a script element: no cell can close the element or open a comment."""
    return Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def level_panels(ids: SemanticIds) -> list[dict[str, Any]]:
    """Per level of the final IDs its chart of items per code, and the figures below it."""
    panels = []
    lost = [level.get("variance_lost") for level in ids.quality.get("levels", [])]
    for level, size in enumerate(ids.level_sizes):
        counts_V = np.bincount(ids.codes_NL[:, level], minlength=size)
        figures = ids.quality.get("id_levels", [{}] * len(ids.level_sizes))[level]
        words = (
            f"Level {level + 1}: items per code in falling order; the busiest carries {count(counts_V.max())}, "
            f"{count((counts_V > 0).sum())} of {count(size)} codes carry any."
        )
        rows = [
            ("Codes in use", percent(float((counts_V > 0).mean()))),
            ("Evenness (entropy)", percent(figures["entropy_share"]) if "entropy_share" in figures else "–"),
            ("Gini of the load", f"{figures['gini']:.2f}" if "gini" in figures else "–"),
            ("Fullest code", f"{count(counts_V.max())} items"),
            ("Even share", f"{len(ids.codes_NL) / size:.1f} items"),
        ]
        if level < len(lost) and lost[level] is not None:
            rows.append(("Variance still lost", percent(lost[level])))
        panels.append(
            {"number": level + 1, "size": size, "chart": charts.load_chart(counts_V.tolist(), words), "rows": rows}
        )
    return panels


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


def figures_in_words(quality: dict[str, Any], kept: list[int]) -> list[dict[str, str]]:
    """The quality figures that a reader should know, each with a sentence on what it says.

    kept: items whose nearest neighbour by vector shares 0, 1, 2 … first codes.
    """
    before, rebuilt = quality["collisions_before"], quality["reconstruction"]
    entries = [
        (
            "Variance lost",
            percent(rebuilt["share_of_variance"]),
            "How much of what tells the vectors apart is gone when only the codes are known. 0 % is a perfect "
            "reconstruction, 100 % no better than one mean vector for all.",
        ),
        (
            "Items that shared their codes",
            percent(before["share_of_items"]),
            f"The quantizer alone gave these items codes that another item has too, at most {count(before['largest_group'])} "
            "items the same. Their IDs had to be told apart afterwards.",
        ),
        (
            "Items given another ID",
            count(quality["moved"]),
            "So many left the codes the quantizer chose, because a closer item holds them. Their last code, at times more, "
            "says less about their content.",
        ),
    ]
    if "extra_error" in quality:
        entries.append(
            (
                "Cost of uniqueness",
                f"{100 * quality['extra_error']:+.1f} %".replace("-", "−"),
                "By how much the mean squared distance between items and their codes changed when every item got an ID of "
                "its own.",
            )
        )
    for prefix in quality.get("prefixes", [])[:-1]:
        first = "first code" if prefix["depth"] == 1 else f"first {prefix['depth']} codes"
        entries.append(
            (
                f"Prefixes by the {first}",
                count(prefix["distinct"]),
                f"{prefix['items_per_prefix']:.1f} items share one on average, at most {count(prefix['largest'])}; "
                f"{percent(prefix['items_alone'])} of the items are alone under theirs, where further codes say nothing.",
            )
        )
    if overall := quality.get("overall"):
        entries.append(
            (
                "Evenness of whole IDs",
                percent(overall["entropy_share"]),
                "Entropy of the quantizer's code sequences before they were made unique, of the most there could be. "
                "100 % means that it told all items apart by itself.",
            )
        )
        entries.append(
            (
                "Said twice by the levels",
                f"{overall['levels_in_common']:.2f} nats",
                "Sum of the entropies of the levels less that of the whole sequence: what one level already tells about "
                "another. 0 would be levels that know nothing of each other.",
            )
        )
    entries += neighbour_words(quality.get("neighbours", {}), kept)
    return [{"name": name, "value": value, "words": words} for name, value, words in entries]


def neighbour_words(neighbours: dict[str, Any], kept: list[int]) -> list[tuple[str, str, str]]:
    """Neighbour preservation: by content as computed for this page, by behaviour where the run measured it."""
    entries = []
    if total := sum(kept):
        entries.append(
            (
                "Nearest items that stay together",
                percent(1 - kept[0] / total),
                "For so many items the most similar one by vector begins with the same code. The others are close in "
                "content and apart in the tree.",
            )
        )
    if neighbours.get("pairs"):
        agreement, chance = neighbours["prefix_agreement"][0], neighbours["prefix_agreement_chance"][0]
        entries.append(
            (
                "Held-out pairs with one first code",
                percent(agreement),
                f"Of {count(neighbours['pairs'])} pairs of items that one person took one after the other, unseen in "
                f"training. By chance it would be {percent(chance)}.",
            )
        )
        entries.append(
            (
                f"Held-out pairs among the {neighbours['k']} nearest",
                percent(neighbours["hit_rate_decoded"]),
                "So often the second item of a pair is that near to the first when only codes are known; with the "
                f"vectors themselves it is {percent(neighbours['hit_rate_vectors'])}.",
            )
        )
    return entries
