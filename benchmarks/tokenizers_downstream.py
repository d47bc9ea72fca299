"""Which semantic IDs recommend better: one small generator, one budget, one row per way to make the IDs, three seeds.

    python -m benchmarks.tokenizers_downstream --out benchmarks/results/tokenizers-downstream.json
    python -m benchmarks.tokenizers_downstream --dataset amazon-beauty --rows random-content --seeds 17 --out runs/again.json \\
        --cells runs/again --against benchmarks/results/tokenizers-downstream.json

A cell (row and seed) takes minutes and is kept in `--cells`; the same command goes on where it stopped, and several processes
started with it share the cells that are left. `--against FILE` says whether the cells just run lie within that file's intervals.
Datasets are folders below $ONEREC_DATA. `--quick` trains for an epoch of few steps, and the file says so.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cells import claim, data_folder
from benchmarks.downstream_cells import DATASETS, Row, run_cell
from benchmarks.results_file import write_results_file

SEEDS = (17, 18, 19)
LETTER = ("tokenizer.quantizer.rq_vae.behaviour_weight=0.1", "tokenizer.quantizer.rq_vae.diversity_weight=0.01")
STE = ("tokenizer.quantizer.rq_vae.gradient=ste",)
QUANTIZERS = ("rq_kmeans", "balanced_rq_kmeans", "rq_kmeans_plus", "rq_vae", "residual_fsq", "opq")


def beauty_rows() -> Iterator[Row]:
    """Random IDs, every quantizer without and with alignment, other uses of behaviour, ways of uniqueness."""
    beauty = "amazon-beauty"
    yield Row(beauty, "content", "random")
    for vectors in ("content", "aligned"):
        for method in QUANTIZERS:
            yield Row(beauty, vectors, method)
    yield Row(beauty, "content", "rq_vae", settings=LETTER, label="rq_vae with LETTER")
    yield Row(beauty, "content", "rq_vae", settings=STE, label="rq_vae with STE")
    yield Row(beauty, "joined", "rq_kmeans")
    for method in ("rq_kmeans", "balanced_rq_kmeans", "rq_vae", "opq"):
        yield Row(beauty, "aligned and joined", method)
    yield Row(beauty, "aligned and joined", "rq_vae", settings=LETTER, label="rq_vae with LETTER")
    for method in ("rq_kmeans", "rq_vae"):
        for unique in ("append_code", "sinkhorn"):
            yield Row(beauty, "aligned and joined", method, unique)


def kuairand_rows() -> Iterator[Row]:
    """The most telling rows again, on the next long view of short videos."""
    kuairand = "kuairand-pure"
    yield Row(kuairand, "content", "random")
    for vectors in ("content", "aligned", "aligned and joined"):
        yield Row(kuairand, vectors, "rq_kmeans")
    yield Row(kuairand, "aligned and joined", "rq_vae")


def whole_generator_rows() -> Iterator[Row]:
    """Does the choice still matter when items have embeddings and output vectors of their own?"""
    yield Row("amazon-beauty", "content", "random", codes_only=False)
    yield Row("amazon-beauty", "content", "rq_kmeans", codes_only=False)
    for method in ("rq_kmeans", "rq_vae"):
        yield Row("amazon-beauty", "aligned and joined", method, codes_only=False)


def main() -> int:
    """Run the cells that are missing, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--cells", type=Path, default=Path("runs/tokenizers_downstream"), help="folder of finished cells"
    )
    parser.add_argument("--dataset", choices=sorted(DATASETS), help="only this dataset")
    parser.add_argument("--rows", nargs="+", help="only these rows, by name")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--against", type=Path, help="results file to compare the cells of this command with")
    parser.add_argument(
        "--finished", action="store_true", help="run no cell, make the table of those that are finished"
    )
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    rows = [
        row
        for row in (*beauty_rows(), *kuairand_rows(), *whole_generator_rows())
        if parsed.dataset in (None, row.dataset)
    ]
    if parsed.rows:
        unknown = set(parsed.rows) - {row.name for row in rows}
        if unknown:
            parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in rows)}")
        rows = [row for row in rows if row.name in parsed.rows]
    cells = parsed.cells / ("quick" if parsed.quick else "full")
    for seed in parsed.seeds:
        for row in rows:
            folder = cells / row.dataset / f"{row.name}-{seed}"
            if not parsed.finished and claim(folder):
                began = time.perf_counter()
                cell = run_cell(row, seed, data, folder, parsed.quick)
                value = cell["test"]["recall@10"]["value"]
                print(
                    f"{row.dataset} {row.name} seed {seed}: Recall@10 {value:.4f}, {time.perf_counter() - began:.0f} s"
                )
    return finish(parsed, rows, cells)


def finish(parsed: argparse.Namespace, rows: list[Row], cells: Path) -> int:
    """Table, claims and file from the cells that are finished."""
    from benchmarks.downstream_table import claims, markdown, outside, table
    from onerec.provenance import code_version, machine, versions

    made = table(rows, parsed.seeds, cells)
    if not made:
        print("no cell is finished yet")
        return 1
    stated = claims(made)
    commit, dirty = code_version()
    facts = {
        "name": "tokenizers_downstream",
        "commit": commit,
        "dirty": dirty,
        "seed": parsed.seeds,
        "quick": parsed.quick,
    }
    # Of all cells, whichever command ran them: two of them at a time take half of it.
    facts |= {"versions": versions(), "machine": machine()}
    facts["seconds"] = sum(len(row["seeds"]) * row["seconds"] for row in made)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.tokenizers_downstream", *sys.argv[1:]])
    figures: dict[str, Any] = {f"recall@10_{row['dataset']}_{row['name']}": row["recall@10"] for row in made}
    results = {"run": facts, "figures": figures, "rows": made, "claims": stated}
    print(markdown(results))
    write_results_file(parsed.out, results)
    if parsed.against:
        stored = json.loads(parsed.against.read_text(encoding="utf-8"))
        strayed = outside(made, stored["rows"])
        print("\n".join(strayed) or f"every row lies within its interval in {parsed.against}")
        return int(bool(strayed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
