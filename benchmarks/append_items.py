"""A thousand unseen items join a fitted tokenizer: does any ID move, and do they land among items like them?

    python -m benchmarks.append_items --out benchmarks/results/append-items-beauty-17.json

A random thousand items of Amazon Beauty ($ONEREC_DATA/amazon-beauty) are taken out with all their events, the tokenizer of
`configs/beauty.yaml` is fitted on the rest, and the thousand are appended. For comparison the same items are tokenized
together with all others, events included. Neighbours are the ten nearest of the other items by content (cosine); a hit is
an item that begins with the codes of at least one of them. `--quick` looks at a quarter of the catalogue.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.output.text import markdown_table, origin
from benchmarks.study.runs import config_of, data_folder

if TYPE_CHECKING:
    from onerec.run.config import RunConfig
    from onerec.run.run import Run
    from tokenizer.item_encoder import ItemEncoder

SEED = 17
HELD_OUT = 1000
QUICK_SHARE = 0.25


def main() -> int:
    """Fit, append, compare, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    started = time.time()
    facts, rows = measure(
        config_of("amazon-beauty", "append_items", SEED, (), data), QUICK_SHARE if parsed.quick else 1.0
    )
    run = run_facts("append_items", quick=parsed.quick, seconds=time.time() - started, **facts)
    keys = ("old_ids_moved", "all_unique", "seconds_to_append", "same_first_code", "same_first_two_codes")
    figures = {key: rows[0][key] for key in keys}
    results = {"run": run, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def measure(config: "RunConfig", share: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts of the run, and a row each for appended items and for the same items fitted with all others."""
    from onerec.run.opening import make_run
    from tokenizer.content.encoder import ContentSpec, content_vectors

    with tempfile.TemporaryDirectory() as folder:  # what it maps into memory outlives the folder
        run = make_run(config, Path(folder))
        run.sequences  # noqa: B018  # a property that makes files
    rng = np.random.default_rng(config.seed)
    everything = np.sort(rng.permutation(len(run.item_ids))[: round(share * len(run.item_ids))])
    new = np.zeros(len(run.item_ids), dtype=bool)
    new[rng.permutation(everything)[:HELD_OUT]] = True
    old_rows, new_rows = np.setdiff1d(everything, np.flatnonzero(new)), np.flatnonzero(new)
    items = run.dataset.item_table
    spec = ContentSpec(**items.columns, seed=config.seed, **config.tokenizer.content.model_dump())
    content_ND = content_vectors(items.table, spec, items.folder)
    rows = [appended_row(run, old_rows, new_rows, content_ND), together_row(run, old_rows, new_rows, content_ND)]
    return {"config": config.tokenizer.model_dump(), "seed": config.seed}, rows


def appended_row(run: "Run", old_rows: np.ndarray, new_rows: np.ndarray, content_ND: np.ndarray) -> dict[str, Any]:
    """Fit on the old items, append the new ones, as `onerec tokenize --append` does."""
    from tokenizer.append import append_items
    from tokenizer.tokenize import tokenize_items

    encoder = fitted_encoder(run, old_rows)
    quantizer = run.config.tokenizer.quantizer
    ids = tokenize_items(
        encoder.vectors_ND, run.item_ids.gather(old_rows), quantizer, behaviour_ND=encoder.behaviour_ND
    )
    started = time.perf_counter()
    vectors_MD = encoder.encode_new(run.dataset.items, run.dataset.folder, new_rows)
    encoded = time.perf_counter()
    joined = append_items(ids, run.item_ids.gather(new_rows), vectors_MD)
    appended = time.perf_counter()
    old_NL, new_ML = np.split(joined.codes_NL, [len(old_rows)])
    moved = int((old_NL != ids.codes_NL).any(axis=1).sum())
    kept_order = joined.item_ids[: len(old_rows)].to_list() == ids.item_ids.to_list()
    return {
        "items": "appended",
        "old_items": len(old_rows),
        "new_items": len(new_rows),
        "old_ids_moved": moved if kept_order else len(old_rows),
        "all_unique": len(np.unique(joined.codes_NL, axis=0)) == len(joined.codes_NL),
        "new_items_without_their_own_codes": joined.quality["appended"][-1]["moved"],
        "error": joined.quality["appended"][-1]["reconstruction_error"],
        "error_of_fitted_items": joined.quality["appended"][-1]["reconstruction_error_before"],
        "seconds_to_encode": encoded - started,
        "seconds_to_append": appended - encoded,
        **hits(new_ML, old_NL, content_ND[new_rows], content_ND[old_rows]),
    }


def together_row(run: "Run", old_rows: np.ndarray, new_rows: np.ndarray, content_ND: np.ndarray) -> dict[str, Any]:
    """Fit on old and new items at once, with the events of both."""
    from tokenizer.tokenize import tokenize_items

    rows = np.sort(np.concatenate([old_rows, new_rows]))
    encoder = fitted_encoder(run, rows)
    quantizer = run.config.tokenizer.quantizer
    ids = tokenize_items(encoder.vectors_ND, run.item_ids.gather(rows), quantizer, behaviour_ND=encoder.behaviour_ND)
    is_new = np.isin(rows, new_rows)
    found = hits(ids.codes_NL[is_new], ids.codes_NL[~is_new], content_ND[new_rows], content_ND[old_rows])
    return {"items": "fitted together", "old_items": len(old_rows), "new_items": len(new_rows), **found}


def fitted_encoder(run: "Run", rows: np.ndarray) -> "ItemEncoder":
    """The config's item encoder, fitted on some items and on training events of theirs alone."""
    from tokenizer.item_encoder import ItemEncoder

    items, offsets = run.training
    number = np.full(len(run.item_ids), -1, dtype=np.int64)
    number[rows] = np.arange(len(rows))
    renumbered = number[items]
    kept = renumbered >= 0
    kept_before = np.concatenate([[0], np.cumsum(kept)])
    chosen = replace(run.dataset.item_table, table=run.dataset.items[rows])
    return ItemEncoder().fit(chosen, (renumbered[kept], kept_before[offsets]), run.config.tokenizer, run.config.seed)


def hits(new_ML: np.ndarray, old_NL: np.ndarray, new_MD: np.ndarray, old_ND: np.ndarray) -> dict[str, float]:
    """Shares of new items that begin with the codes of a content neighbour, and what chance would give."""
    from tokenizer.quality.landing import landing_figures

    figures = landing_figures(new_ML, new_MD, old_NL, old_ND, k=10)
    return {
        "same_first_code": figures["same_prefix"][0],
        "same_first_code_by_chance": figures["chance"][0],
        "same_first_two_codes": figures["same_prefix"][1],
        "same_first_two_codes_by_chance": figures["chance"][1],
    }


def markdown(results: dict[str, Any]) -> str:
    """The table for terminal and docs."""
    rows, header = results["rows"], ("new items", "first code of a neighbour (chance)", "first two codes (chance)")
    lines = [
        (
            row["items"],
            *(
                f"{row[name]:.1%} ({row[f'{name}_by_chance']:.1%})"
                for name in ("same_first_code", "same_first_two_codes")
            ),
        )
        for row in rows
    ]
    made = rows[0]
    said = (
        f"Old IDs moved: {made['old_ids_moved']}; all unique: {'yes' if made['all_unique'] else 'NO'}; "
        f"{made['new_items_without_their_own_codes']} of {made['new_items']} new items did not get their own codes; "
        f"{made['seconds_to_encode']:.1f} s to encode, {made['seconds_to_append']:.2f} s to append."
    )
    return f"{markdown_table(header, lines)}\n\n{said}\n{origin(results['run'])}"


if __name__ == "__main__":
    sys.exit(main())
