"""Which semantic IDs recommend better: one small generator, one budget, one row per way to make the IDs, three seeds.

    python -m benchmarks.tokenizers_downstream --out benchmarks/results/tokenizers-downstream.json
    python -m benchmarks.tokenizers_downstream --dataset amazon-beauty --rows random-content --seeds 17 --out runs/again.json \\
        --cells runs/again --against benchmarks/results/tokenizers-downstream.json

A cell (row and seed) takes minutes and is kept in `--cells`; the same command goes on where it stopped, and several processes
started with it share the cells that are left. `--against FILE` says whether the cells just run lie within that file's intervals.
Datasets are folders below $ONEREC_DATA. `--quick` trains for an epoch of few steps, and the file says so.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output.text import markdown_table, origin, share, share_interval, signed_interval
from benchmarks.semantic_ids.downstream_cell import DATASETS, DownstreamRow, measure
from benchmarks.semantic_ids.downstream_claims import claims_of
from benchmarks.study.runs import data_folder
from benchmarks.study.samples import Cells, entry_of, sample_of
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser

NAME = "tokenizers_downstream"
SEEDS = (17, 18, 19)
BEAUTY, KUAIRAND = "amazon-beauty", "kuairand-pure"
LETTER = ("tokenizer.quantizer.rq_vae.behaviour_weight=0.1", "tokenizer.quantizer.rq_vae.diversity_weight=0.01")
STE = ("tokenizer.quantizer.rq_vae.gradient=ste",)
QUANTIZERS = ("rq_kmeans", "balanced_rq_kmeans", "rq_kmeans_plus", "rq_vae", "residual_fsq", "opq")
BOTH = "aligned and joined"
HEADER = (
    "vectors",
    "quantizer",
    "unique by",
    "Recall@10",
    "NDCG@10",
    "Recall@50",
    "Recall@10 against RQ-KMeans on content",
    "valid NDCG@10",
    "variance lost",
    "sharing codes",
    "held-out pairs among 10 nearest",
    "seeds",
)


def name_of(label: str, vectors: str, unique: str = "nearest_free", codes_only: bool = True) -> str:
    """The name of a row."""
    parts = [label, vectors, "" if unique == "nearest_free" else unique, "" if codes_only else "whole generator"]
    return "-".join(part.replace(" ", "_") for part in parts if part)


def row_of(
    dataset: str,
    vectors: str,
    method: str,
    unique: str = "nearest_free",
    *,
    settings: tuple[str, ...] = (),
    label: str = "",
    codes_only: bool = True,
) -> DownstreamRow:
    """A row; its difference is taken to RQ-KMeans on content with the same dataset and generator."""
    label = label or method
    name, against = name_of(label, vectors, unique, codes_only), name_of("rq_kmeans", "content", codes_only=codes_only)
    options = {"against": against, "vectors": vectors, "method": method, "unique": unique, "codes_only": codes_only}
    return DownstreamRow(dataset, name, label=label, settings=settings, **options)  # type: ignore[arg-type]


def all_rows() -> list[DownstreamRow]:
    """Beauty with codes alone, the most telling rows again on KuaiRand, and some with the whole generator."""
    return [
        # Random IDs, every quantizer without and with alignment, other uses of behaviour, ways of uniqueness.
        row_of(BEAUTY, "content", "random"),
        *(row_of(BEAUTY, vectors, method) for vectors in ("content", "aligned") for method in QUANTIZERS),
        row_of(BEAUTY, "content", "rq_vae", settings=LETTER, label="rq_vae with LETTER"),
        row_of(BEAUTY, "content", "rq_vae", settings=STE, label="rq_vae with STE"),
        row_of(BEAUTY, "joined", "rq_kmeans"),
        *(row_of(BEAUTY, BOTH, method) for method in ("rq_kmeans", "balanced_rq_kmeans", "rq_vae", "opq")),
        row_of(BEAUTY, BOTH, "rq_vae", settings=LETTER, label="rq_vae with LETTER"),
        *(
            row_of(BEAUTY, BOTH, method, unique)
            for method in ("rq_kmeans", "rq_vae")
            for unique in ("append_code", "sinkhorn")
        ),
        row_of(KUAIRAND, "content", "random"),
        *(row_of(KUAIRAND, vectors, "rq_kmeans") for vectors in ("content", "aligned", BOTH)),
        row_of(KUAIRAND, BOTH, "rq_vae"),
        # Does the choice still matter when items have embeddings and output vectors of their own?
        *(row_of(BEAUTY, "content", method, codes_only=False) for method in ("random", "rq_kmeans")),
        *(row_of(BEAUTY, BOTH, method, codes_only=False) for method in ("rq_kmeans", "rq_vae")),
    ]


def main() -> int:
    """Run the cells that are missing, print the table, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("--dataset", choices=sorted(DATASETS), help="only this dataset")
    parser.add_argument("--against", type=Path, help="results file to compare the cells of this command with")
    parsed = parser.parse_args()
    rows = [row for row in all_rows() if parsed.dataset in (None, row.dataset)]
    rows = [row for row in chosen_rows(parser, rows, parsed.only) if isinstance(row, DownstreamRow)]
    study = Study.of(NAME, rows, measure, data_folder(parser), parsed)
    if not parsed.finished:
        study.run_missing(rows)
    made = entries({row: study.finished(row) for row in rows})
    figures = {f"recall@10_{row['dataset']}_{row['name']}": row["recall@10"] for row in made}
    results = {**study.results(made, figures), "claims": claims_of(made)}
    status = show_and_write(results, markdown, parsed.out)
    if status or not parsed.against:
        return status
    strayed = outside(made, json.loads(parsed.against.read_text(encoding="utf-8"))["rows"])
    print("\n".join(strayed) or f"every row lies within its interval in {parsed.against}")
    return int(bool(strayed))


def entries(finished: dict[DownstreamRow, Cells]) -> list[dict[str, Any]]:
    """An entry for each row with a finished cell: means over seeds, and intervals over seeds and users.

    `difference` is to RQ-KMeans on content with the same dataset and generator, `by_alignment` to the same quantizer on content.
    Both are paired, on the users and seeds that both rows have.
    """
    by_name = {(row.dataset, row.name): cells for row, cells in finished.items()}
    made = []
    for row, cells in finished.items():
        if not cells:
            continue
        entry = {**summary(row, cells), **sample_of(cells, "test").intervals()}
        unaligned = name_of(row.method, "content", codes_only=row.codes_only) if row.vectors == "aligned" else ""
        for key, name in (("difference", row.against), ("by_alignment", unaligned)):
            other = by_name.get((row.dataset, name), {})
            if name != row.name and other.keys() & cells.keys():
                found = sample_of(cells, "test").minus(sample_of(other, "test"))
                entry[key] = found.intervals()["recall@10"]
        made.append(entry)
    return made


def summary(row: DownstreamRow, cells: Cells) -> dict[str, Any]:
    """What an entry says beside its test figures: validation, quality of the IDs, time."""
    facts = [cell.facts for cell in cells.values()]
    quality = [one["quality"] for one in facts]
    levels = range(len(quality[0]["levels"]))

    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    def least(name: str) -> list[float]:
        return [min(one["levels"][level][name] for one in quality) for level in levels]

    return {
        "dataset": row.dataset,
        "name": row.name,
        "label": row.label,
        "vectors": row.vectors,
        "unique": row.unique,
        "generator": "codes only" if row.codes_only else "own embedding and item head too",
        **entry_of(cells),
        "valid_recall@10": mean([one["valid"]["recall@10"] for one in facts]),
        "valid_ndcg@10": mean([one["valid"]["ndcg@10"] for one in facts]),
        "id_recall@10": mean([one["test"]["id_recall@10"]["value"] for one in facts]),
        "variance_lost": mean([one["reconstruction"]["share_of_variance"] for one in quality]),
        "utilisation": least("utilisation"),
        "entropy_share": least("entropy_share"),
        "items_sharing_codes": mean([one["collisions_before"]["share_of_items"] for one in quality]),
        "pair_hit_rate@10": mean([one["pair_hit_rate"]["10"] for one in facts]),
        "pair_hit_rate@50": mean([one["pair_hit_rate"]["50"] for one in facts]),
        "by_seed": {str(seed): cell.facts["test"]["recall@10"]["value"] for seed, cell in cells.items()},
    }


def outside(made: list[dict[str, Any]], stored: list[dict[str, Any]]) -> list[str]:
    """A line for each row whose Recall@10 lies outside the interval on file, or is not on file."""
    known = {(row["dataset"], row["name"]): row["recall@10"] for row in stored}
    lines = []
    for row in made:
        interval, value = known.get((row["dataset"], row["name"])), row["recall@10"]["value"]
        if interval is None:
            lines.append(f"{row['name']}: not on file")
        elif not interval["low"] <= value <= interval["high"]:
            lines.append(f"{row['name']}: {value:.4f} outside {interval['low']:.4f} to {interval['high']:.4f}")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """A table per dataset and kind of generator, and the claims, for terminal and docs."""
    rows, parts = results["rows"], []
    for dataset, generator in dict.fromkeys((row["dataset"], row["generator"]) for row in rows):
        inside = [row for row in rows if (row["dataset"], row["generator"]) == (dataset, generator)]
        parts.append(f"**{dataset}**, the generator reads and writes {generator}:")
        parts.append(markdown_table(HEADER, [cells_of(row) for row in inside]))
    claims = [
        (one["claim"], "holds" if one["holds"] else "**fails**", in_words(one["figures"])) for one in results["claims"]
    ]
    parts.append(markdown_table(("claim", "here", "figures"), claims))
    return "\n\n".join([*parts, origin(results["run"])])


def cells_of(row: dict[str, Any]) -> list[str]:
    """A row of the Markdown table."""
    return [
        row["vectors"],
        f"`{row['label']}`",
        row["unique"].replace("_", " "),
        share_interval(row["recall@10"]),
        share(row["ndcg@10"]["value"]),
        share(row["recall@50"]["value"]),
        signed_interval(row["difference"]) if "difference" in row else "",
        share(row["valid_ndcg@10"]),
        share(row["variance_lost"], 3),
        f"{row['items_sharing_codes']:.0%}",
        f"{row['pair_hit_rate@10']:.1%}",
        str(len(row["seeds"])),
    ]


def in_words(figures: dict[str, Any]) -> str:
    """Figures of a claim in one cell: intervals as such, lists level by level."""
    said = []
    for name, value in figures.items():
        if isinstance(value, dict):
            text = signed_interval(value)
        elif isinstance(value, list):
            text = " / ".join(f"{one:.3f}" for one in value)
        else:
            text = f"{value:.4f}"
        said.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(said)


if __name__ == "__main__":
    sys.exit(main())
