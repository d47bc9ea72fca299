"""What each part of the generator is worth: the shipped config with one thing changed at a time, two seeds, part of the budget.

    python -m benchmarks.generator_ablations amazon-beauty --out benchmarks/results/ablations-beauty.json --run runs/beauty
    python -m benchmarks.generator_ablations kuairand-pure --out benchmarks/results/ablations-kuairand.json

A cell (row and seed) takes minutes and is kept in `--cells`; the same command goes on where it stopped. All rows of the first
seed come before the second. `--run RUN` also leaves the table in a run's folder, whose report then shows it. Datasets are folders
below $ONEREC_DATA. `--quick` trains for one epoch and asks few users, and the file says so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.generators.ablation_cell import EVERY_ITEM, AblationRow, measure
from benchmarks.output.text import markdown_table, origin, share, signed, signed_interval
from benchmarks.study.cells import Row
from benchmarks.study.runs import data_folder
from benchmarks.study.samples import Cells, entry_of, sample_of
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser

NAME = "generator_ablations"
SEEDS = (17, 18)
PATHWAYS, CLOSING, DECODERS, SEARCH = "pathways", "closing the gap", "decoders", "search"
ITEMS_ALONE = tuple(f"generator.pathways.{names}=[]" for names in ("event_features", "item_features", "user_features"))
POSITIVE = "generator.pathways.stream=positive"
RUN_FILE = "ablations.json"
PARTS = ("valid", "test")
HEADER = (
    "Recall@10",
    "NDCG@10",
    "difference in Recall@10",
    "difference in NDCG@10",
    "by seed",
    "difference in valid NDCG@10",
    "cold items found",
    "parameters",
    "training",
    "lists",
)


def kuairand_rows() -> list[Row]:
    """The shipped config reads everything; each row takes something away or adds the one thing that it leaves out."""

    def row(name: str, label: str, *settings: str) -> Row:
        return AblationRow("kuairand-pure", name, PATHWAYS, label, settings, "base")

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
    """Closing ideas and decoders, which are trained; widths of search and selection, on the generators of other rows."""
    beauty = "amazon-beauty"

    def closing(name: str, label: str, *settings: str, against: str = "base") -> Row:
        return AblationRow(beauty, name, CLOSING, label, settings, against)

    def decoder(name: str, label: str, *settings: str) -> Row:
        return AblationRow(beauty, name, DECODERS, label, settings, "base")

    def searched(name: str, label: str, width: int) -> Row:
        return AblationRow(beauty, name, SEARCH, label, against="base", needs="base", beam_width=width)

    def selected(name: str, label: str, against: str, needs: str) -> Row:
        return AblationRow(beauty, name, CLOSING, label, against=against, needs=needs, search="selection")

    no_head, no_item_loss = "generator.item_head=false", "generator.item_loss=0"
    no_lookahead, lazy = "generator.lookahead=false", "generator.decoder=lazy"
    return [
        closing("base", "every position a target, beam of 50"),
        closing("no_lookahead", "without lookahead", no_lookahead),
        closing("no_item_loss", "lookahead, without item-level loss", no_item_loss, "generator.lookahead=true"),
        closing("no_items", "without lookahead and item-level loss", no_item_loss),
        closing("no_item_head", "without item head", no_head),
        closing("codes_alone", "neither item head nor lookahead", no_head, no_lookahead),
        closing("full_softmax", "softmax over all codes", no_head, "generator.softmax=full", against="codes_alone"),
        closing("no_own_embedding", "without own embeddings", "generator.own_embedding=false"),
        closing("no_own_dropout", "own embeddings never dropped", "generator.own_dropout=0"),
        # A window with every position a target has about six of them here; a step has as many targets as before.
        closing(
            "one_target", "one target a window, as shipped", "generator.context=bidirectional", "train.batch_size=376"
        ),
        closing("content_ids", "IDs from content alone", "tokenizer.collaborative.weight=0"),
        closing("averaged", "averaged weights", "train.average_decay=0.998"),
        selected("selection", "selection from a beam of 200", "base", "base"),
        selected("selection_no_items", "selection, without lookahead and item-level loss", "selection", "no_items"),
        # 106 hidden features: within 200, the layers then have as many parameters as those of the base.
        decoder(
            "lazy",
            "lazy, three layers, no encoder, equal parameters",
            lazy,
            "generator.encoder_layers=0",
            "generator.decoder_layers=3",
            "generator.hidden_width=106",
        ),
        decoder("lazy_encoder", "lazy, behind the encoder", lazy),
        decoder(
            "experts",
            "four experts of 64, two active",
            "generator.experts=4",
            "generator.experts_active=2",
            "generator.expert_hidden_width=64",
        ),
        searched("beam_20", "beam of 20", 20),
        searched("beam_100", "beam of 100", 100),
        searched("beam_300", "beam of 300", 300),
        AblationRow(
            beauty,
            "every_item",
            SEARCH,
            "every item scored, 500 users",
            against="base",
            needs="base",
            search=EVERY_ITEM,
            users=500,
        ),
    ]


ROWS = {"amazon-beauty": beauty_rows, "kuairand-pure": kuairand_rows}


def main() -> int:
    """Run the cells that are missing, print the table, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("dataset", choices=sorted(ROWS))
    parser.add_argument("--run", type=Path, help="folder of a run whose report is to show the table")
    parser.set_defaults(cells=Path("runs/ablations"))
    parsed = parser.parse_args()
    study = Study.of(NAME, ROWS[parsed.dataset](), measure, data_folder(parser), parsed)
    wanted = chosen_rows(parser, study.rows, parsed.only)
    if not parsed.finished:
        study.run_missing(wanted)
    made = entries({row: study.finished(row) for row in study.rows})
    figures = {f"{metric}_{row['name']}": row["test"][metric] for row in made for metric in row["test"]}
    results = study.results(made, figures, dataset=parsed.dataset)
    return show_and_write(results, markdown, parsed.out, *([parsed.run / RUN_FILE] if parsed.run else []))


def entries(finished: dict[Row, Cells]) -> list[dict[str, Any]]:
    """An entry of the table for each row with a finished cell.

    A user's figure is the mean over the seeds. Intervals are over users; those of differences are paired, on the users and seeds
    that both rows have.
    """
    by_name = {row.name: cells for row, cells in finished.items()}
    return [entry(row, cells, by_name.get(row.against, {})) for row, cells in finished.items() if cells]


def entry(row: Row, cells: Cells, reference: Cells) -> dict[str, Any]:
    """One row's figures, and its differences to the cells of another row."""
    facts = [cell.facts for cell in cells.values()]
    tests = [one["figures"]["test"] for one in facts]
    made: dict[str, Any] = {
        "dataset": row.dataset,
        "name": row.name,
        "group": row.group,
        "label": row.label,
        "settings": list(row.settings),
        "against": row.against,
        **entry_of(cells),
        "users": {part: facts[0]["figures"][part]["cases"] for part in PARTS},
        "cold": {
            "cases": sum(one["cold_cases"] for one in tests),
            "found": sum(one["cold_hits@10"] for one in tests),
        },
        "parameters": facts[0]["parameters"],
        "trained": not row.needs,
        **{part: sample_of(cells, part).intervals(over_seeds=False) for part in PARTS},
    }
    if row.against != row.name and cells.keys() & reference.keys():
        differences = {part: sample_of(cells, part).minus(sample_of(reference, part)) for part in PARTS}
        made["difference"] = {part: found.intervals(over_seeds=False) for part, found in differences.items()}
        made["by_seed"] = differences["test"].by_seed()
    return made


def markdown(results: dict[str, Any]) -> str:
    """A table for each heading, for terminal and docs."""
    rows, parts = results["rows"], []
    for group in dict.fromkeys(row["group"] for row in rows):
        parts.append(markdown_table((group, *HEADER), [cells_of(row) for row in rows if row["group"] == group]))
    users = rows[0]["users"]
    said = f"{users['test']:,} test and {users['valid']:,} validation users, fewer where a row says so; seconds are of one core; "
    return "\n\n".join([*parts, said + origin(results["run"])])


def cells_of(row: dict[str, Any]) -> Sequence[str]:
    """A row of the Markdown table."""
    against = "" if row["against"] in ("base", row["name"]) else f", against: {row['against'].replace('_', ' ')}"
    difference = row.get("difference")
    return (
        row["label"] + against,
        share(row["test"]["recall@10"]["value"]),
        share(row["test"]["ndcg@10"]["value"]),
        signed_interval(difference["test"]["recall@10"]) if difference else "",
        signed_interval(difference["test"]["ndcg@10"]) if difference else "",
        ", ".join(signed(one["ndcg@10"]) for one in row.get("by_seed", {}).values()),
        signed_interval(difference["valid"]["ndcg@10"]) if difference else "",
        f"{row['cold']['found']:.0f} of {row['cold']['cases']}",
        f"{row['parameters']['total']:,}",
        f"{row['seconds']['training']:.0f} s" if row["trained"] else "",
        f"{row['seconds']['lists']:.0f} s",
    )


if __name__ == "__main__":
    sys.exit(main())
