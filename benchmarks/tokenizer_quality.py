"""Quality of semantic IDs by quantizer and by what the vectors hold, before anything is trained on them.

    python -m benchmarks.tokenizer_quality --dataset amazon-beauty --out quality-beauty.json
    python -m benchmarks.tokenizer_quality --dataset kuairec --text caption --out quality-kuairec.json \\
        --labels first_level_category_name second_level_category_name third_level_category_name

`--dataset NAME` is a dataset folder below $ONEREC_DATA. Neighbours are pairs that no part of the tokenizer has seen: a
user's last training item and first validation item; where events are sets without order, one of each drawn at random.
`--text` describes items by these columns alone, nothing else of their content; `--labels` are columns whose values
should share prefixes (see `tokenizer.quality.prefixes.prefix_purity`). `--quick` trains every network for 20 steps, and the
file says so. What the OneRec report claims of its quantizers is printed as holding here or not, with the figures.
"""

import argparse
import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from benchmarks.quality_claims import claims_of
from benchmarks.results_file import write_results_file
from onerec.data.contract import Dataset, DatasetSpec, read_dataset
from onerec.data.split import Sequences, held_out_pairs, items_of, split_sequences, training_sequences
from onerec.errors import UserError
from onerec.run.config import RunConfig, load_config
from onerec.run.provenance import code_version, machine, versions
from tokenizer.behaviour.alignment import AlignmentSpec
from tokenizer.content.text import MISSING_WORDS
from tokenizer.item_encoder import ItemEncoder, TokenizerSection
from tokenizer.quality.prefixes import prefix_purity
from tokenizer.quantizers.spec import Method
from tokenizer.tokenize import tokenize_items

CONFIG = Path(__file__).parent.parent / "configs" / "beauty.yaml"
VECTORS = ("content", "content_and_behaviour", "aligned")
NEURAL = ("rq_vae", "rq_kmeans_plus", "residual_fsq")
QUICK_STEPS = 20


def main() -> int:
    """Tokenize every way, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="amazon-beauty", help="name of a dataset folder below $ONEREC_DATA")
    parser.add_argument("--config", type=Path, default=CONFIG, help="run config whose tokenizer section is used")
    parser.add_argument("--methods", nargs="+", default=list(get_args(Method)), choices=get_args(Method))
    parser.add_argument("--vectors", nargs="+", default=list(VECTORS), choices=VECTORS)
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="describe items by these columns alone")
    parser.add_argument("--labels", nargs="+", metavar="COLUMN", default=[], help="columns to measure purity by")
    parser.add_argument("--level-sizes", nargs="+", type=int, metavar="CODES", help="instead of the config's")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    folder = os.environ.get("ONEREC_DATA")
    if not folder:
        parser.error("the environment variable ONEREC_DATA must name the folder that holds the dataset")
    overrides = [f"dataset.folder={Path(folder) / parsed.dataset}"]
    if parsed.level_sizes:
        overrides.append(f"tokenizer.quantizer.level_sizes={parsed.level_sizes}")
    if parsed.quick:
        overrides += [f"tokenizer.quantizer.{method}.steps={QUICK_STEPS}" for method in NEURAL]
    started = time.time()
    source = Source.read(parsed.config, overrides, parsed.text, parsed.labels)
    rows = measure(source, parsed.vectors, parsed.methods, QUICK_STEPS if parsed.quick else None)
    claims = claims_of(rows)
    commit, dirty = code_version()
    facts = {
        "name": "tokenizer_quality",
        "command": shlex.join(["python", "-m", "benchmarks.tokenizer_quality", *sys.argv[1:]]),
        "dataset": source.dataset.spec.name,
        "dataset_sha256": source.dataset.sha256,
        "content": source.dataset.spec.items.model_dump(),
        "pairs_in_order": source.sequences.ordered,
        "config": source.config.tokenizer.model_dump(mode="json"),
        "quick": parsed.quick,
        "seed": source.config.seed,
        "seconds": time.time() - started,
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "machine": machine(),
    }
    results = {"run": facts, "figures": figures_of(rows), "claims": claims, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


@dataclass(frozen=True)
class Source:
    """What is tokenized: a dataset, its training events, held-out pairs, and labels of its items."""

    config: RunConfig
    dataset: Dataset
    sequences: Sequences
    pairs_P2: np.ndarray
    labels: dict[str, pl.Series]

    @classmethod
    def read(cls, config_file: Path, overrides: list[str], text: list[str] | None, labels: list[str]) -> "Source":
        """Read the dataset that a config names, described by `text` columns alone unless that is None."""
        config = load_config(config_file, overrides)
        section = config.dataset
        dataset = read_dataset(section.folder)
        for column in [*(text or []), *labels]:
            if column not in dataset.items.columns:
                names = ", ".join(dataset.items.columns)
                raise UserError(f'{section.folder}: its items have no column "{column}"; they have {names}')
        if text is not None:
            dataset = replace(dataset, spec=described_by(dataset, text))
        columns = dataset.spec.items
        if told := sorted({*columns.text, *columns.categorical} & set(labels)) if text is not None else []:
            raise UserError(f"{', '.join(told)}: named by --text and by --labels; a label must not describe its items")
        method = section.split if dataset.spec.events.ordered else "by_period"
        sequences = split_sequences(dataset, method=method, positive=section.positive)
        pairs_P2 = held_out_pairs(sequences, config.seed)
        return cls(config, dataset, sequences, pairs_P2, {name: known(dataset, name) for name in labels})


def described_by(dataset: Dataset, text: list[str]) -> DatasetSpec:
    """The dataset's spec with these text columns as all that describes an item."""
    columns = dataset.spec.items.model_copy(update={"text": text, "categorical": [], "numeric": [], "vectors": []})
    return dataset.spec.model_copy(update={"items": columns})


def known(dataset: Dataset, name: str) -> pl.Series:
    """A column as labels: null where a cell only says that there is nothing."""
    cells = pl.col(name).cast(pl.String).str.strip_chars()
    missing = cells.str.to_lowercase().is_in(MISSING_WORDS)
    return dataset.items.select(pl.when(~missing).then(cells).alias(name))[name]


def measure(source: Source, vectors: list[str], methods: list[str], steps: int | None = None) -> list[dict[str, Any]]:
    """One row per kind of vectors and quantizer. steps: of the alignment, None for those of its settings."""
    config, training, rows = source.config, training_sequences(source.sequences), []
    for kind in vectors:
        section = section_of(kind, config.tokenizer, steps)
        encoder = ItemEncoder().fit(source.dataset.item_table, training, section, config.seed)
        for method in methods:
            spec = section.quantizer.model_copy(update={"method": method})
            started = time.perf_counter()
            ids = tokenize_items(encoder.vectors_ND, items_of(source.dataset), spec, neighbours_P2=source.pairs_P2)
            seconds = time.perf_counter() - started
            purity = {name: prefix_purity(ids.quantizer_codes_NQ, labels) for name, labels in source.labels.items()}
            facts = {"vectors": kind, "width": encoder.vectors_ND.shape[1], "method": method, "seconds": seconds}
            rows.append({**facts, "quality": ids.quality, "purity": purity})
            print(f"{kind}, {method}: {seconds:.0f} s", file=sys.stderr)
    return rows


def section_of(kind: str, section: TokenizerSection, steps: int | None) -> TokenizerSection:
    """The tokenizer section for one kind of vectors: content alone, joined with behaviour, or bent towards it."""
    alignment = section.alignment or AlignmentSpec()
    alignment = alignment.model_copy(update={"steps": steps or alignment.steps})
    apart = section.collaborative.model_copy(update={"weight": 0.0})
    changed: dict[str, dict[str, Any]] = {
        "content": {"collaborative": apart, "alignment": None},
        "content_and_behaviour": {"alignment": None},
        "aligned": {"collaborative": apart, "alignment": alignment},
    }
    return section.model_copy(update=changed[kind])


def figures_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Every figure of every row under a name of its own."""
    figures: dict[str, float] = {}
    for row in rows:
        quality, of = row["quality"], f"{row['method']}_{row['vectors']}"
        figures[f"variance_lost_{of}"] = quality["reconstruction"]["share_of_variance"]
        figures[f"items_sharing_codes_{of}"] = quality["collisions_before"]["share_of_items"]
        figures[f"moved_{of}"] = quality["moved"]
        figures[f"extra_error_{of}"] = quality["extra_error"]
        figures[f"seconds_{of}"] = row["seconds"]
        for name in ("utilisation", "entropy_share", "gini"):
            figures[f"{name}_overall_{of}"] = quality["overall"][name]
        for number, level in enumerate(quality["levels"], start=1):
            for name in ("utilisation", "entropy_share", "gini", "variance_lost"):
                figures[f"{name}_level_{number}_{of}"] = level[name]
        neighbours = quality["neighbours"]
        if neighbours["pairs"]:
            figures[f"hit_rate_{row['vectors']}"] = neighbours["hit_rate_vectors"]
            figures[f"hit_rate_decoded_{of}"] = neighbours["hit_rate_decoded"]
            for name in ("prefix_agreement", "prefix_agreement_chance"):
                for number, share in enumerate(neighbours[name], start=1):
                    figures[f"{name}_level_{number}_{of}"] = share
        for label, depths in row["purity"].items():
            for depth in depths:
                figures[f"purity_level_{depth['depth']}_{label}_{of}"] = depth["purity"]
                figures[f"purity_chance_level_{depth['depth']}_{label}_{of}"] = depth["chance"]
                figures[f"purity_adjusted_level_{depth['depth']}_{label}_{of}"] = depth["adjusted"]
    return figures


def markdown(results: dict[str, Any]) -> str:
    """The tables for terminal and docs."""
    from benchmarks.result_tables import origin

    rows = results["rows"]
    parts = [quality_table(rows)]
    if any(row["quality"]["neighbours"]["pairs"] for row in rows):
        parts.append(neighbour_table(rows))
    if any(row["purity"] for row in rows):
        parts.append(purity_table(rows))
    notes = dict.fromkeys(f"{row['vectors']}: {note}" for row in rows for note in row["quality"]["notes"])
    parts.append("\n".join(f"note: {note.replace('_', ' ')}" for note in notes))
    parts.append(table("| claim | vectors | here | figures |", [list(map(str, c.values())) for c in results["claims"]]))
    return "\n\n".join([part for part in parts if part] + [origin(results["run"])])


def quality_table(rows: list[dict[str, Any]]) -> str:
    """What the codes lose and how evenly they are used."""
    return table(
        "| vectors | quantizer | variance lost | codes used | entropy of max | Gini | sharing codes | moved | seconds |",
        [
            [
                f"{row['vectors'].replace('_', ' ')} ({row['width']})",
                f"`{row['method']}`",
                share(quality["reconstruction"]["share_of_variance"]),
                by_level(quality["levels"], "utilisation"),
                by_level(quality["levels"], "entropy_share"),
                by_level(quality["levels"], "gini"),
                f"{quality['collisions_before']['share_of_items']:.0%}",
                f"{quality['moved']:,}",
                f"{row['seconds']:.0f}",
            ]
            for row in rows
            for quality in [row["quality"]]
        ],
    )


def neighbour_table(rows: list[dict[str, Any]]) -> str:
    """Whether pairs that behaviour brought together stay together."""
    return table(
        "| vectors | quantizer | pairs with the same first codes | by chance | among the nearest: vectors | codes |",
        [
            [
                row["vectors"].replace("_", " "),
                f"`{row['method']}`",
                " / ".join(f"{value:.2%}" for value in pairs["prefix_agreement"]),
                " / ".join(f"{value:.2%}" for value in pairs["prefix_agreement_chance"]),
                f"{pairs['hit_rate_vectors']:.2%}",
                f"{pairs['hit_rate_decoded']:.2%}",
            ]
            for row in rows
            for pairs in [row["quality"]["neighbours"]]
        ],
    )


def purity_table(rows: list[dict[str, Any]]) -> str:
    """How pure prefixes are by each label, against shuffled labels."""
    return table(
        "| vectors | quantizer | label | purity of prefixes | shuffled labels | of the way to perfect |",
        [
            [
                row["vectors"].replace("_", " "),
                f"`{row['method']}`",
                label.replace("_", " "),
                *(by_level(depths, name) for name in ("purity", "chance", "adjusted")),
            ]
            for row in rows
            for label, depths in row["purity"].items()
        ],
    )


def table(head: str, rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *(f"| {' | '.join(row)} |" for row in rows)])


def by_level(levels: list[dict[str, float]], name: str) -> str:
    """A figure of every level, as .949 / .889 / .886."""
    return " / ".join(share(level[name]) for level in levels)


def share(value: float) -> str:
    """A share with three decimals and no leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
