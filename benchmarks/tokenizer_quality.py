"""Quality of semantic IDs by quantizer and by what the vectors hold, before anything is trained on them.

    python -m benchmarks.tokenizer_quality --dataset amazon-beauty --out quality-beauty.json
    python -m benchmarks.tokenizer_quality --dataset kuairec --text caption --out quality-kuairec.json \\
        --labels first_level_category_name second_level_category_name third_level_category_name

`--dataset NAME` is a dataset folder below $ONEREC_DATA. Neighbours are pairs that no part of the tokenizer has seen: a
user's last training item and first validation item; where events are sets without order, one of each drawn at random.
`--text` describes items by these columns alone, nothing else of their content; `--labels` are columns whose values
should share prefixes (see `tokenizer.quality.prefixes.prefix_purity`). The terminal says which of the OneRec report's claims
about its quantizers hold here, and by which figures.

A cell (vectors and quantizer) is kept in `--cells`; the same command goes on where it stopped, and several processes started with
it share the cells that are left. `--quick` trains every network for 20 steps, and the file says so.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from benchmarks.output.text import markdown_table, origin, share
from benchmarks.semantic_ids.item_vectors import fitted_vectors
from benchmarks.semantic_ids.quality_claims import claims_of
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import CONFIGS, data_folder
from benchmarks.study.samples import entry_of
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser
from onerec.data.contract import Dataset, DatasetSpec, read_dataset
from onerec.data.split import Sequences, held_out_pairs, items_of, split_sequences, training_sequences
from onerec.errors import UserError
from onerec.run.config import RunConfig
from onerec.run.config_files import load_config
from tokenizer.behaviour.alignment import AlignmentSpec
from tokenizer.content.text import MISSING_WORDS
from tokenizer.item_encoder import TokenizerSection
from tokenizer.quality.prefixes import prefix_purity
from tokenizer.quantizers.spec import Method
from tokenizer.tokenize import tokenize_items

NAME = "tokenizer_quality"
VECTORS = ("content", "content_and_behaviour", "aligned")
NEURAL = ("rq_vae", "rq_kmeans_plus", "residual_fsq")
QUICK_STEPS = 20
FACTS = ("dataset_sha256", "content", "pairs_in_order", "config")  # of a cell, the same for all


def main() -> int:
    """Run the cells that are missing, print the tables, write the file."""
    parser = study_parser(NAME, __doc__, ())
    parser.add_argument("--dataset", default="amazon-beauty", help="name of a dataset folder below $ONEREC_DATA")
    parser.add_argument("--config", type=Path, default=CONFIGS / "beauty.yaml", help="its tokenizer section is used")
    parser.add_argument("--methods", nargs="+", default=list(get_args(Method)), choices=get_args(Method))
    parser.add_argument("--vectors", nargs="+", default=list(VECTORS), choices=VECTORS)
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="describe items by these columns alone")
    parser.add_argument("--labels", nargs="+", metavar="COLUMN", default=[], help="columns to measure purity by")
    parser.add_argument("--level-sizes", nargs="+", type=int, metavar="CODES", help="instead of the config's")
    parsed = parser.parse_args()
    data = data_folder(parser)
    overrides = [f"dataset.folder={data / parsed.dataset}"]
    if parsed.level_sizes:
        overrides.append(f"tokenizer.quantizer.level_sizes={parsed.level_sizes}")
    if parsed.quick:
        overrides += [f"tokenizer.quantizer.{method}.steps={QUICK_STEPS}" for method in NEURAL]
    source = Source(load_config(parsed.config, overrides), parsed.text, tuple(parsed.labels))
    parsed.seeds = [source.config.seed]
    settings = (str(source.config.tokenizer.model_dump(mode="json")), f"text={parsed.text}", f"labels={parsed.labels}")
    rows = [
        Row(parsed.dataset, f"{vectors}-{method}", vectors, method, settings)
        for vectors in parsed.vectors
        for method in parsed.methods
    ]
    study = Study.of(NAME, rows, source.measure, data, parsed)
    wanted = chosen_rows(parser, rows, parsed.only)
    if not parsed.finished:
        study.run_missing(wanted)
    cells = [cell for row in rows for cell in study.finished(row).values()]
    made = [entry(cell) for cell in cells]
    facts = {name: cells[0].facts[name] for name in FACTS} if cells else {}
    results = study.results(made, figures_of(made), dataset=parsed.dataset, **facts)
    return show_and_write({**results, "claims": claims_of(made)}, markdown, parsed.out)


@dataclass(frozen=True)
class Source:
    """What is tokenized: the dataset that a config names, described by `text` columns alone unless that is None."""

    config: RunConfig
    text: list[str] | None
    label_columns: tuple[str, ...]

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, with the description that is asked for."""
        folder = self.config.dataset.folder
        dataset = read_dataset(folder)
        for column in [*(self.text or []), *self.label_columns]:
            if column not in dataset.items.columns:
                names = ", ".join(dataset.items.columns)
                raise UserError(f'{folder}: its items have no column "{column}"; they have {names}')
        if self.text is None:
            return dataset
        dataset = replace(dataset, spec=described_by(dataset, self.text))
        columns = dataset.spec.items
        if told := sorted({*columns.text, *columns.categorical} & set(self.label_columns)):
            raise UserError(f"{', '.join(told)}: named by --text and by --labels; a label must not describe its items")
        return dataset

    @cached_property
    def sequences(self) -> Sequences:
        """Every user's events by part of the data."""
        section = self.config.dataset
        method = section.split if self.dataset.spec.events.ordered else "by_period"
        return split_sequences(self.dataset, method=method, positive=section.positive)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Pairs `[P, 2]` that no part of the tokenizer sees."""
        return held_out_pairs(self.sequences, self.config.seed)

    @cached_property
    def labels(self) -> dict[str, pl.Series]:
        """Labels of the items by column."""
        return {name: known(self.dataset, name) for name in self.label_columns}

    def measure(self, study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
        """Tokenize with one kind of vectors and one quantizer; vectors are fitted once for all quantizers."""
        kind, method, config = cell.row.group, cell.row.label, self.config
        section = section_of(kind, config.tokenizer, QUICK_STEPS if study.quick else None)
        path = study.cells / cell.row.dataset / f"vectors-{kind}.npz"
        training = training_sequences(self.sequences)
        vectors_ND, _ = fitted_vectors(path, self.dataset.item_table, training, section, config.seed)
        spec = section.quantizer.model_copy(update={"method": method})
        started = time.perf_counter()
        ids = tokenize_items(vectors_ND, items_of(self.dataset), spec, neighbours_P2=self.neighbours)
        facts = {
            "dataset_sha256": self.dataset.sha256,
            "content": self.dataset.spec.items.model_dump(),
            "pairs_in_order": self.sequences.ordered,
            "config": config.tokenizer.model_dump(mode="json"),
            "width": vectors_ND.shape[1],
            "seconds": {"tokenizing": time.perf_counter() - started},
            "quality": ids.quality,
            "purity": {name: prefix_purity(ids.quantizer_codes_NQ, labels) for name, labels in self.labels.items()},
        }
        return facts, {}


def described_by(dataset: Dataset, text: list[str]) -> DatasetSpec:
    """The dataset's spec with these text columns as all that describes an item."""
    columns = dataset.spec.items.model_copy(update={"text": text, "categorical": [], "numeric": [], "vectors": []})
    return dataset.spec.model_copy(update={"items": columns})


def known(dataset: Dataset, name: str) -> pl.Series:
    """A column as labels: null where a cell only says that there is nothing."""
    cells = pl.col(name).cast(pl.String).str.strip_chars()
    missing = cells.str.to_lowercase().is_in(MISSING_WORDS)
    return dataset.items.select(pl.when(~missing).then(cells).alias(name))[name]


def section_of(kind: str, section: TokenizerSection, steps: int | None) -> TokenizerSection:
    """The tokenizer section for one kind of vectors: content alone, joined with behaviour, or bent towards it.

    steps: of the alignment, None for those of its settings.
    """
    alignment = section.alignment or AlignmentSpec()
    alignment = alignment.model_copy(update={"steps": steps or alignment.steps})
    apart = section.collaborative.model_copy(update={"weight": 0.0})
    changed: dict[str, dict[str, Any]] = {
        "content": {"collaborative": apart, "alignment": None},
        "content_and_behaviour": {"alignment": None},
        "aligned": {"collaborative": apart, "alignment": alignment},
    }
    return section.model_copy(update=changed[kind])


def entry(cell: Cell) -> dict[str, Any]:
    """A row of the results file."""
    facts, row = cell.facts, cell.row
    made = {"vectors": row.group, "width": facts["width"], "method": row.label, **entry_of({cell.seed: cell})}
    return {**made, "quality": facts["quality"], "purity": facts["purity"]}


def figures_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The main figures by name; `rows` have those of every level and label."""
    figures: dict[str, float] = {}
    for row in rows:
        quality, of = row["quality"], f"{row['method']}_{row['vectors']}"
        figures[f"variance_lost_{of}"] = quality["reconstruction"]["share_of_variance"]
        figures[f"items_sharing_codes_{of}"] = quality["collisions_before"]["share_of_items"]
        if quality["neighbours"]["pairs"]:
            figures[f"hit_rate_{row['vectors']}"] = quality["neighbours"]["hit_rate_vectors"]
            figures[f"hit_rate_decoded_{of}"] = quality["neighbours"]["hit_rate_decoded"]
    return figures


def markdown(results: dict[str, Any]) -> str:
    """The tables for terminal and docs."""
    rows = results["rows"]
    parts = [quality_table(rows)]
    if any(row["quality"]["neighbours"]["pairs"] for row in rows):
        parts.append(neighbour_table(rows))
    if any(row["purity"] for row in rows):
        parts.append(purity_table(rows))
    notes = dict.fromkeys(f"{row['vectors']}: {note}" for row in rows for note in row["quality"]["notes"])
    parts.append("\n".join(f"note: {note.replace('_', ' ')}" for note in notes))
    claims = [tuple(map(str, claim.values())) for claim in results["claims"]]
    parts.append(markdown_table(("claim", "vectors", "here", "figures"), claims))
    return "\n\n".join([*filter(None, parts), origin(results["run"])])


def quality_table(rows: list[dict[str, Any]]) -> str:
    """What the codes lose and how evenly they are used."""
    header = ("vectors", "quantizer", "variance lost", "codes used", "entropy of max", "Gini", "sharing codes")
    lines = []
    for row in rows:
        quality = row["quality"]
        lines.append(
            (
                f"{row['vectors'].replace('_', ' ')} ({row['width']})",
                f"`{row['method']}`",
                share(quality["reconstruction"]["share_of_variance"], 3),
                *(by_level(quality["levels"], name) for name in ("utilisation", "entropy_share", "gini")),
                f"{quality['collisions_before']['share_of_items']:.0%}",
                f"{quality['moved']:,}",
                f"{row['seconds']['tokenizing']:.0f}",
            )
        )
    return markdown_table((*header, "moved", "seconds"), lines)


def neighbour_table(rows: list[dict[str, Any]]) -> str:
    """Whether pairs that behaviour brought together stay together."""
    header = ("vectors", "quantizer", "pairs with the same first codes", "by chance")
    lines = []
    for row in rows:
        pairs = row["quality"]["neighbours"]
        lines.append(
            (
                row["vectors"].replace("_", " "),
                f"`{row['method']}`",
                " / ".join(f"{value:.2%}" for value in pairs["prefix_agreement"]),
                " / ".join(f"{value:.2%}" for value in pairs["prefix_agreement_chance"]),
                f"{pairs['hit_rate_vectors']:.2%}",
                f"{pairs['hit_rate_decoded']:.2%}",
            )
        )
    return markdown_table((*header, "among the nearest: vectors", "codes"), lines)


def purity_table(rows: list[dict[str, Any]]) -> str:
    """How pure prefixes are by each label, against shuffled labels."""
    lines = [
        (
            row["vectors"].replace("_", " "),
            f"`{row['method']}`",
            label.replace("_", " "),
            *(by_level(depths, name) for name in ("purity", "chance", "adjusted")),
        )
        for row in rows
        for label, depths in row["purity"].items()
    ]
    header = ("vectors", "quantizer", "label", "purity of prefixes", "shuffled labels", "of the way to perfect")
    return markdown_table(header, lines)


def by_level(levels: list[dict[str, float]], name: str) -> str:
    """A figure of every level: `.949 / .889 / .886`."""
    return " / ".join(share(level[name], 3) for level in levels)


if __name__ == "__main__":
    sys.exit(main())
