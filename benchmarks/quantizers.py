"""Quality of semantic IDs by quantizer and by what the vectors hold, before anything is trained on them.

    python -m benchmarks.quantizers --dataset amazon-beauty --out benchmarks/results/quantizers-beauty-17.json

Vectors come from content alone and from content joined with training co-occurrence, as `configs/beauty.yaml` makes them.
`--dataset NAME` is a dataset folder below $ONEREC_DATA. `--quick` fits RQ-VAE for 50 steps only, and the file says so.
"""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results_file

CONFIG = Path(__file__).parent.parent / "configs" / "beauty.yaml"
METHODS = ("rq_kmeans", "rq_vae")


def main() -> int:
    """Tokenize four ways, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="amazon-beauty", help="name of a dataset folder below $ONEREC_DATA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    folder = os.environ.get("ONEREC_DATA")
    if not folder:
        parser.error("the environment variable ONEREC_DATA must name the folder that holds the dataset")
    overrides = [f"dataset.folder={Path(folder) / parsed.dataset}"]
    if parsed.quick:
        overrides.append("tokenizer.quantizer.rq_vae.steps=50")
    started = time.time()
    run, rows = measure(overrides)
    print_rows(rows)
    facts = {**run, "seconds": time.time() - started, "quick": parsed.quick}
    facts["command"] = shlex.join(["python", "-m", "benchmarks.quantizers", *sys.argv[1:]])
    figures = {f"variance_lost_{row['method']}_{row['vectors']}": row["variance_lost"] for row in rows}
    write_results_file(parsed.out, {"run": facts, "figures": figures, "rows": rows})
    return 0


def measure(overrides: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts of the run and one row per kind of vectors and quantizer."""
    from onerec.config import load_config
    from onerec.item_vectors import item_vectors
    from onerec.pipeline import Run
    from onerec.provenance import code_version, machine, versions
    from tokenizer.tokenize import tokenize_items

    config = load_config(CONFIG, overrides)
    run, rows = Run(config, Path("runs") / "unused"), []
    for name, weight in (("content", 0.0), ("content_and_behaviour", config.tokenizer.collaborative.weight)):
        collaborative = config.tokenizer.collaborative.model_copy(update={"weight": weight})
        section = config.tokenizer.model_copy(update={"collaborative": collaborative})
        vectors_ND, _ = item_vectors(run.dataset, run.training, section, config.seed)
        for method in METHODS:
            spec = config.tokenizer.quantizer.model_copy(update={"method": method})
            started = time.perf_counter()
            quality = tokenize_items(vectors_ND, run.item_ids, spec).quality
            rows.append(row_of(name, vectors_ND.shape[1], method, quality, time.perf_counter() - started))
    commit, dirty = code_version()
    facts = {"name": "quantizers", "config": config.tokenizer.model_dump(), "commit": commit, "dirty": dirty}
    return {**facts, "seed": config.seed, "versions": versions(), "machine": machine()}, rows


def row_of(vectors: str, width: int, method: str, quality: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The figures of one tokenization that the table shows."""
    return {
        "vectors": vectors,
        "width": width,
        "method": method,
        "variance_lost": quality["reconstruction"]["share_of_variance"],
        "utilisation": [level["utilisation"] for level in quality["levels"]],
        "entropy_share": [level["entropy_share"] for level in quality["levels"]],
        "items_sharing_codes": quality["collisions_before"]["share_of_items"],
        "moved": quality["moved"],
        "seconds": seconds,
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The table as Markdown, ready for docs/tokenizer.md."""
    print(
        "| vectors | quantizer | variance lost | entropy of max, levels 1/2/3 | items sharing codes | IDs moved | seconds |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        entropy = " / ".join(f"{share:.3f}".removeprefix("0") for share in row["entropy_share"])
        lost = f"{row['variance_lost']:.3f}".removeprefix("0")
        vectors = f"{row['vectors'].replace('_', ' ')} ({row['width']})"
        sharing = f"{row['items_sharing_codes']:.0%}"
        print(
            f"| {vectors} | `{row['method']}` | {lost} | {entropy} | {sharing} | {row['moved']:,} | {row['seconds']:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
