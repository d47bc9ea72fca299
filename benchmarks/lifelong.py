"""What it costs to cluster a long history, and how much of it the clusters keep.

    python -m benchmarks.lifelong --out benchmarks/results/lifelong.json
    python -m benchmarks.lifelong --out quick.json --quick

Histories are simulated: items lie around centres that lie at random, and events are drawn from the items. Seconds are the
processor's, of one user and one boundary. The share of the variance that the clusters' means leave over stands beside that of
k-means without a hierarchy, where that one is quick enough to wait for.
"""

import sys
import time
from typing import Any

import numpy as np

from benchmarks.output.text import markdown_table, origin
from benchmarks.speed.parts import measure_parts
from onerec.data.lifelong import LifelongConfig, LifelongReader, LifelongSource
from tokenizer.clustering.hierarchical_kmeans import hierarchical_kmeans
from tokenizer.clustering.kmeans import lloyd
from tokenizer.clustering.nearest import squared_distances

WIDTH, CENTRES = 64, 300
CASES = ((3_000, 3_000), (20_000, 20_000), (100_000, 12_000), (100_000, 100_000))  # events, items
QUICK_CASES = ((300, 300), (900, 200))
FLAT_ROWS = 20_000  # different items up to which plain k-means is measured too


def main() -> int:
    """Measure, print the table, write the file."""
    return measure_parts("lifelong", __doc__, {"clustering": clustering}, markdown)


def clustering(quick: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row per case. A history becomes the report's 2,000 representatives, or 100 to be quick."""
    config = LifelongConfig(representatives=100 if quick else 2000)
    rows = [measured(events, items, config) for events, items in (QUICK_CASES if quick else CASES)]
    return {"representatives": config.representatives, "columns": WIDTH}, rows


def measured(events: int, items: int, config: LifelongConfig) -> dict[str, Any]:
    """One history of so many events, in which each of so many items occurs at least once."""
    draw = np.random.default_rng(0)
    centres = 2 * draw.normal(size=(CENTRES, WIDTH))[draw.integers(CENTRES, size=items)]
    vectors_NW = (centres + draw.normal(size=(items, WIDTH))).astype(np.float32)
    log = draw.permutation(np.concatenate([np.arange(items), draw.integers(items, size=events - items)]))
    reader = LifelongReader(
        LifelongSource(config, vectors_NW, np.ones(1, bool)), log, draw.integers(0, 17, (events, 1)).astype(np.int16)
    )
    began = time.process_time()
    found = reader.representatives(0, events)
    row: dict[str, Any] = {"events": events, "items": items, "seconds": time.process_time() - began}
    row |= {"rows": len(found.places_K), "kept_bytes": found.bytes}
    row |= {"left": left(vectors_NW, hierarchical_kmeans(vectors_NW, len(found.places_K)).cluster_N)}
    if items <= FLAT_ROWS:
        began = time.process_time()
        flat = lloyd(vectors_NW, len(found.places_K), iterations=10)
        row |= {"flat_seconds": time.process_time() - began, "flat_left": left(vectors_NW, flat.assignment_N)}
    return row


def left(x_ND: np.ndarray, cluster_N: np.ndarray) -> float:
    """The share of the variance of rows that the means of their clusters do not explain."""
    sums_KD = np.zeros((int(cluster_N.max()) + 1, x_ND.shape[1]))
    np.add.at(sums_KD, cluster_N, x_ND)
    counts_K = np.bincount(cluster_N, minlength=len(sums_KD))
    means_KD = (sums_KD / np.maximum(counts_K, 1)[:, None]).astype(np.float32)
    total = np.square(x_ND - x_ND.mean(axis=0)).sum(dtype=np.float64)
    return float(squared_distances(x_ND, means_KD, cluster_N).sum(dtype=np.float64) / total)


def markdown(results: dict[str, Any]) -> str:
    """A table of cases."""
    header = ("events", "different items", "become", "seconds", "kept", "variance left")
    lines = [
        (
            f"{row['events']:,}",
            f"{row['items']:,}",
            f"{row['rows']:,}",
            f"{row['seconds']:.2f}",
            f"{row['kept_bytes'] / 1024:.0f} KiB",
            f"{row['left']:.1%}",
            f"{row['flat_seconds']:.2f}" if "flat_seconds" in row else "",
            f"{row['flat_left']:.1%}" if "flat_left" in row else "",
        )
        for row in results["rows"]
    ]
    shown = markdown_table((*header, "plain k-means: seconds", "variance left"), lines)
    return f"{shown}\n\n{origin(results['run'])}"


if __name__ == "__main__":
    sys.exit(main())
