"""What each part of the generator is worth: the shipped config with one thing changed at a time, two seeds, part of the budget.

    python -m benchmarks.generator_ablations amazon-beauty --out benchmarks/results/ablations-beauty.json --run runs/beauty
    python -m benchmarks.generator_ablations kuairand-pure --out benchmarks/results/ablations-kuairand.json

A cell (row and seed) takes minutes and is kept in `--cells`; the same command goes on where it stopped. All rows of the first
seed come before the second. `--run RUN` also leaves the table in a run's folder, whose report then shows it. Datasets are folders
below $ONEREC_DATA. `--quick` trains for one epoch and asks few users, and the file says so.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.ablation_cells import DATASETS, EVERY_ITEM, Row, cell_folder, ready, run_cell
from benchmarks.cells import claim, data_folder
from benchmarks.results_file import write_results_file
from onerec.files import write_json

SEEDS = (17, 18)
PATHWAYS, CLOSING, DECODERS, SEARCH = "pathways", "closing the gap", "decoders", "search"
ITEMS_ALONE = tuple(f"generator.pathways.{names}=[]" for names in ("event_features", "item_features", "user_features"))
POSITIVE = "generator.pathways.stream=positive"
RUN_FILE = "ablations.json"


def kuairand_rows() -> list[Row]:
    """The shipped config reads everything; each row takes something away or adds the one thing that it leaves out."""

    def row(name: str, label: str, *settings: str) -> Row:
        return Row("kuairand-pure", name, PATHWAYS, label, settings)

    return [
        row("base", "as shipped: all events, features of events, items and users"),
        row("no_event_features", "without features of events", ITEMS_ALONE[0]),
        row("no_item_features", "without features of items", ITEMS_ALONE[1]),
        row("no_user_features", "without features of users", ITEMS_ALONE[2]),
        row("positive_only", "positive events alone in the history", POSITIVE),
        row("positive_older", "and 50 older positive events", "generator.pathways.positive_length=50"),
        row(
            "lifelong",
            "and the lifelong pathway, 100 representatives in 16 tokens",
            "generator.pathways.lifelong={representatives: 100, tokens: 16}",
        ),
        row("items_only", "items of positive events alone", POSITIVE, *ITEMS_ALONE),
    ]


def beauty_rows() -> list[Row]:
    """Closing ideas and decoders, trained; widths of search and selection, on generators of other rows."""
    beauty = "amazon-beauty"

    def trained(name: str, group: str, label: str, *settings: str, against: str = "base") -> Row:
        return Row(beauty, name, group, label, settings, against)

    def searched(name: str, label: str, width: int) -> Row:
        return Row(beauty, name, SEARCH, label, model="base", beam_width=width)

    no_head = "generator.item_head=false"
    return [
        trained("base", CLOSING, "every position a target, beam of 50"),
        trained("no_lookahead", CLOSING, "without lookahead", "generator.lookahead=false"),
        trained(
            "no_item_loss",
            CLOSING,
            "lookahead, without item-level loss",
            "generator.item_loss=0",
            "generator.lookahead=true",
        ),
        trained("no_items", CLOSING, "without lookahead and item-level loss", "generator.item_loss=0"),
        trained("no_item_head", CLOSING, "without item head", no_head),
        trained("codes_alone", CLOSING, "neither item head nor lookahead", no_head, "generator.lookahead=false"),
        trained(
            "full_softmax",
            CLOSING,
            "softmax over all codes",
            no_head,
            "generator.softmax=full",
            against="codes_alone",
        ),
        trained("no_own_embedding", CLOSING, "without own embeddings", "generator.own_embedding=false"),
        trained("no_own_dropout", CLOSING, "own embeddings never dropped", "generator.own_dropout=0"),
        # As many targets a step as before: a window that is every position's has about six here.
        trained(
            "one_target",
            CLOSING,
            "one target a window, as shipped",
            "generator.context=bidirectional",
            "train.batch_size=376",
        ),
        trained("content_ids", CLOSING, "IDs from content alone", "tokenizer.collaborative.weight=0"),
        trained("averaged", CLOSING, "averaged weights", "train.average_decay=0.998"),
        Row(beauty, "selection", CLOSING, "selection from a beam of 200", model="base", search="selection"),
        Row(
            beauty,
            "selection_no_items",
            CLOSING,
            "selection, without lookahead and item-level loss",
            against="selection",
            model="no_items",
            search="selection",
        ),
        # 106 features inside the feed-forward networks: as many parameters in the layers as the base has, within 200.
        trained(
            "lazy",
            DECODERS,
            "lazy, three layers, no encoder, equal parameters",
            "generator.decoder=lazy",
            "generator.encoder_layers=0",
            "generator.decoder_layers=3",
            "generator.hidden_width=106",
        ),
        trained("lazy_encoder", DECODERS, "lazy, behind the encoder", "generator.decoder=lazy"),
        trained(
            "experts",
            DECODERS,
            "four experts of 64, two active",
            "generator.experts=4",
            "generator.experts_active=2",
            "generator.expert_hidden_width=64",
        ),
        searched("beam_20", "beam of 20", 20),
        searched("beam_100", "beam of 100", 100),
        searched("beam_300", "beam of 300", 300),
        Row(beauty, "every_item", SEARCH, "every item scored, 500 users", model="base", search=EVERY_ITEM, users=500),
    ]


ROWS = {"amazon-beauty": beauty_rows, "kuairand-pure": kuairand_rows}


def main() -> int:
    """Run the cells that are missing, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=Path, default=Path("runs/ablations"), help="folder of finished cells")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="rows to run, by name; the file has all finished ones"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--run", type=Path, help="folder of a run whose report is to show the table")
    parser.add_argument("--finished", action="store_true", help="run no cell")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    rows = {row.name: row for row in ROWS[parsed.dataset]()}
    if unknown := set(parsed.only or ()) - rows.keys():
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    cells = parsed.cells / ("quick" if parsed.quick else "full")
    wanted = [row for name, row in rows.items() if not parsed.only or name in parsed.only]
    for seed in [] if parsed.finished else parsed.seeds:
        for row in wanted:
            if not ready(row, rows, seed, cells):
                print(f"{row.name} seed {seed}: left out, row {row.model} is not finished")
            elif claim(cell_folder(cells, row, seed)):
                report(row, rows, seed, data, cells, parsed.quick)
    return finish(parsed, list(rows.values()), cells)


def report(row: Row, rows: dict[str, Row], seed: int, data: Path, cells: Path, quick: bool) -> None:
    """Run one cell and say what came out."""
    began = time.perf_counter()
    trained = rows[row.model or row.name]
    keep = any(other.model == row.name for other in rows.values())
    cell = run_cell(row, trained, seed, data, cells, quick=quick, keep=keep)
    found = {part: cell["figures"][part]["ndcg@10"] for part in ("valid", "test")}
    words = f"NDCG@10 {found['valid']:.4f} on validation, {found['test']:.4f} on test"
    print(f"{row.dataset} {row.name} seed {seed}: {words}, {time.perf_counter() - began:.0f} s", flush=True)


def finish(parsed: argparse.Namespace, rows: list[Row], cells: Path) -> int:
    """Table and file from the cells that are finished."""
    from benchmarks.ablation_table import markdown, table
    from onerec.run.provenance import code_version, machine, versions

    made = table(rows, parsed.seeds, cells)
    if not made:
        print("no cell is finished yet")
        return 1
    commit, dirty = code_version()
    facts: dict[str, Any] = {"name": "generator_ablations", "dataset": parsed.dataset, "commit": commit, "dirty": dirty}
    facts |= {"seed": parsed.seeds, "quick": parsed.quick, "versions": versions(), "machine": machine()}
    # Of all cells, whichever command ran them, in seconds of one core.
    facts["seconds"] = sum(len(row["seeds"]) * sum(row["seconds"].values()) for row in made)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.generator_ablations", *sys.argv[1:]])
    figures = {f"{metric}_{row['name']}": row["test"][metric] for row in made for metric in row["test"]}
    results = {"run": facts, "figures": figures, "rows": made}
    print(markdown(results))
    write_results_file(parsed.out, results)
    if parsed.run:
        write_json(parsed.run / RUN_FILE, json.loads(json.dumps(results, default=str)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
