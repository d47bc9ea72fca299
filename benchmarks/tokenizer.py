"""Speed, error and memory of RQ-KMeans beside faiss and scikit-learn, and of balanced k-means beside k-means-constrained.

    python -m benchmarks.tokenizer --out benchmarks/results/tokenizer-19.json

Vectors come from the items of Amazon Beauty (a folder below $ONEREC_DATA): TF-IDF of title and categories reduced to 768
columns; for a million rows of 128 columns, random pairs of such vectors mixed at random and noise of a tenth of their
length added. All libraries use as many threads as OMP_NUM_THREADS allows (it is set to the number of cores if unset)
and take turns, so that a slow moment of the machine hits all of them. Errors are shares of the variance that codes lose.
Needs the extra `benchmarks`. `--quick` takes fewer rows and codes; its figures are no claim, and the file says so.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results_file
from benchmarks.timing import spread, timed

NEEDED = {"faiss": "faiss-cpu", "k_means_constrained": "k-means-constrained", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Sizes:
    """What a run measures; see FULL and QUICK."""

    small_rows: int
    small_level_sizes: tuple[int, ...]
    large_rows: int
    large_fit_rows: int
    large_level_sizes: tuple[int, ...]
    balanced_rows: int
    balanced_clusters: int
    memory_rows: int
    repeats: int


FULL = Sizes(12_101, (256,) * 3, 1_000_000, 131_072, (4096,) * 3, 3_686, 256, 100_000, 3)
QUICK = Sizes(2_000, (64,) * 3, 20_000, 4_096, (256,) * 3, 600, 40, 20_000, 2)
MEMORY_SETTINGS = (32, 256)
# Rounds of Lloyd's algorithm per level: the default of faiss, and what ours, which starts better (the time of that start
# is counted), needs to end below its error. Errors stand beside speeds.
ROUNDS = {"12k": {"ours": 4, "others": 25}, "1m": {"ours": 3, "others": 25}}
BALANCED_ROUNDS = {"ours": 12, "k_means_constrained": 3}


def main() -> int:
    """Measure, print the table, write the file."""
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))  # before anything loads a BLAS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("12k", "1m", "balanced", "memory"), action="append", help="parts to measure")
    parsed = parser.parse_args()
    missing = missing_packages()
    if missing:
        parser.error(f"this benchmark compares with {', '.join(missing)}: install the extra `benchmarks`")
    folder = os.environ.get("ONEREC_DATA")
    if not folder:
        parser.error("the environment variable ONEREC_DATA must name the folder that holds amazon-beauty")
    parts = parsed.only or ["12k", "1m", "balanced", "memory"]
    started = time.time()
    figures, rows = measure(Path(folder) / "amazon-beauty", QUICK if parsed.quick else FULL, parts)
    command = shlex.join(["python", "-m", "benchmarks.tokenizer", *sys.argv[1:]])
    run = {**facts(parsed.quick), "parts": parts, "seconds": time.time() - started, "command": command}
    results = {"run": run, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def missing_packages() -> list[str]:
    """Distributions that the comparison needs and that cannot be imported."""
    from importlib.util import find_spec

    return [package for module, package in NEEDED.items() if find_spec(module) is None]


def measure(dataset: Path, sizes: Sizes, parts: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures by name, and one row per part and method."""
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for part, run in (("12k", small_part), ("1m", large_part), ("balanced", balanced_part)):
        if part in parts:
            more_figures, more_rows = run(dataset, sizes)
            figures |= more_figures
            rows += more_rows
    if "memory" in parts:
        for memory_mib in MEMORY_SETTINGS:
            for method in ("rq_kmeans", "balanced_rq_kmeans"):
                grown = memory_growth(method, memory_mib, sizes)
                figures |= {f"peak_memory_mib_{what}_{method}_{memory_mib}": value for what, value in grown.items()}
                case = f"{sizes.memory_rows:,} x 128, 1,024 codes, memory_mib {memory_mib}"
                rows.append({"part": "memory", "case": case, "method": method, **grown})
    return figures, rows


def small_part(dataset: Path, sizes: Sizes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every item of the catalogue; the residual quantizer of faiss, which is slow to fit, is fitted once."""
    from benchmarks.tokenizer_rivals import FaissKmeans, FaissResidualQuantizer, Ours, ScikitLearn

    x_ND = item_vectors(dataset, 768)[: sizes.small_rows]
    levels, rounds = list(sizes.small_level_sizes), ROUNDS["12k"]
    rivals = {
        "ours": (Ours(levels, rounds["ours"]), sizes.repeats),
        "ours_beam_5": (Ours(levels, rounds["ours"], beam_width=5), sizes.repeats),
        "faiss": (FaissKmeans(levels, rounds["others"]), sizes.repeats),
        "sklearn": (ScikitLearn(levels, rounds["others"]), sizes.repeats),
        "faiss_residual_quantizer": (FaissResidualQuantizer(levels), 1),
    }
    return compare("12k", rivals, x_ND, x_ND)


def large_part(dataset: Path, sizes: Sizes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Many rows, of which all methods fit the same sample and encode all."""
    import numpy as np

    from benchmarks.tokenizer_rivals import FaissKmeans, Ours, ScikitLearn

    x_ND = mixed_rows(item_vectors(dataset, 128), sizes.large_rows)
    sample_ND = x_ND[np.random.default_rng(1).permutation(len(x_ND))[: sizes.large_fit_rows]]
    levels, rounds = list(sizes.large_level_sizes), ROUNDS["1m"]
    rivals = {
        "ours": (Ours(levels, rounds["ours"]), sizes.repeats),
        "faiss": (FaissKmeans(levels, rounds["others"]), sizes.repeats),
        "sklearn": (ScikitLearn(levels, rounds["others"]), 1),
    }
    return compare("1m", rivals, sample_ND, x_ND)


def compare(
    part: str, rivals: dict[str, tuple[Any, int]], fit_ND: Any, encode_ND: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let the methods take turns at fitting and encoding; ratios are of the same turn."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"fit": [], "encode": []} for name in rivals}
    errors: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(max(count for _, count in rivals.values())):
        for name, (rival, count) in rivals.items():
            if turn < count:
                seconds[name]["fit"].append(timed(rival.fit, fit_ND, turn))
                seconds[name]["encode"].append(timed(rival.encode, encode_ND))
                errors[name].append(rival.error(encode_ND))
                print(f"{part} {name}: fit {seconds[name]['fit'][-1]:.2f} s, error {errors[name][-1]:.4f}", flush=True)
    figures: dict[str, Any] = {}
    for name in [name for name in rivals if not name.startswith("ours")]:
        for verb in ("fit", "encode"):
            pairs = zip(seconds[name][verb], seconds["ours"][verb], strict=False)
            figures[f"{verb}_speedup_vs_{name}_{part}"] = spread([theirs / ours for theirs, ours in pairs])
        pairs = zip(errors["ours"], errors[name], strict=False)
        figures[f"error_ratio_vs_{name}_{part}"] = spread([ours / theirs for ours, theirs in pairs])
    rows = [
        {
            "part": part,
            "case": f"{len(encode_ND):,} x {encode_ND.shape[1]}, fitted on {len(fit_ND):,}",
            "method": name,
            "fit_seconds": spread(seconds[name]["fit"]),
            "encode_rows_per_second": spread([len(encode_ND) / each for each in seconds[name]["encode"]]),
            "error": spread(errors[name]),
        }
        for name in rivals
    ]
    return figures, rows


def balanced_part(dataset: Path, sizes: Sizes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One level of equal clusters from the same random rows; ours takes more rounds, which its time includes."""
    import numpy as np

    from benchmarks.tokenizer_rivals import balanced_ours, balanced_theirs, inertia_of

    x_ND = np.ascontiguousarray(item_vectors(dataset, 128)[: sizes.balanced_rows])
    methods = {"ours": balanced_ours, "k_means_constrained": balanced_theirs}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    inertia: dict[str, list[float]] = {name: [] for name in methods}
    found: list[Any] = []
    for turn in range(sizes.repeats):
        start_KD = x_ND[np.random.default_rng(turn).permutation(len(x_ND))[: sizes.balanced_clusters]]
        for name, method in methods.items():
            seconds[name].append(timed(method, x_ND, start_KD, BALANCED_ROUNDS[name], found))
            load = np.bincount(found[-1], minlength=sizes.balanced_clusters)
            if np.ptp(load) > 1:
                raise AssertionError(f"{name} made clusters of {load.min()} to {load.max()} rows")
            inertia[name].append(inertia_of(x_ND, found[-1]))
            print(f"balanced {name}: {seconds[name][-1]:.3f} s, inertia {inertia[name][-1]:.1f}", flush=True)
    theirs = "k_means_constrained"
    figures = {
        f"balanced_speedup_vs_{theirs}": spread(
            [slow / fast for slow, fast in zip(seconds[theirs], seconds["ours"], strict=True)]
        ),
        f"error_ratio_vs_{theirs}": spread([a / b for a, b in zip(inertia["ours"], inertia[theirs], strict=True)]),
    }
    case = f"{len(x_ND):,} x {x_ND.shape[1]}, {sizes.balanced_clusters} equal clusters"
    rows = [
        {
            "part": "balanced",
            "case": f"{case}, {BALANCED_ROUNDS[name]} rounds",
            "method": name,
            "fit_seconds": spread(seconds[name]),
            "error": spread(inertia[name]),
        }
        for name in methods
    ]
    return figures, rows


def memory_growth(method: str, memory_mib: int, sizes: Sizes) -> dict[str, float]:
    """MiB by which a fresh process grows beyond its vectors while fitting a tenth of them, and while encoding all."""
    command = [sys.executable, "-m", "benchmarks.tokenizer_memory", method, str(memory_mib), str(sizes.memory_rows)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    fit, encode = map(float, answer.stdout.split())
    return {"fit": fit, "encode": encode}


def item_vectors(dataset: Path, width: int) -> Any:
    """Text vectors of the items, float32 [N,width], rows of length one."""
    import polars as pl

    from tokenizer.content.encoder import ContentSpec, content_vectors

    items = pl.read_parquet(dataset / "items.parquet")
    return content_vectors(items, ContentSpec(text=["title", "categories"], text_dimensions=width), dataset)


def mixed_rows(x_ND: Any, count: int) -> Any:
    """`count` rows between random pairs of real ones, with noise of a tenth of a row's length; float32."""
    import numpy as np

    generator = np.random.default_rng(0)
    mixed_MD = np.empty((count, x_ND.shape[1]), dtype=np.float32)
    for start in range(0, count, 1 << 16):
        rows = min(1 << 16, count - start)
        share_R1 = generator.random((rows, 1), dtype=np.float32)
        first, second = (x_ND[generator.integers(len(x_ND), size=rows)] for _ in range(2))
        noise = generator.standard_normal((rows, x_ND.shape[1]), dtype=np.float32) * 0.1 / np.sqrt(x_ND.shape[1])
        mixed_MD[start : start + rows] = share_R1 * first + (1 - share_R1) * second + noise
    return mixed_MD


def facts(quick: bool) -> dict[str, Any]:
    """Where the figures come from."""
    from importlib import metadata

    from onerec.run.provenance import code_version, machine, versions

    commit, dirty = code_version()
    packages = {package: metadata.version(package) for package in NEEDED.values()}
    threads = int(os.environ["OMP_NUM_THREADS"])
    settings = {"rounds": ROUNDS, "balanced_rounds": BALANCED_ROUNDS, "threads": threads}
    return {
        "name": "tokenizer",
        "quick": quick,
        "config": settings,
        "commit": commit,
        "dirty": dirty,
        "versions": versions() | packages,
        "machine": machine(),
    }


def markdown(results: dict[str, Any]) -> str:
    """The table and the ratios for terminal and docs."""
    from benchmarks.result_tables import origin

    lines = [
        "| rows | method | fit, seconds | encode, rows a second | error | memory grown by fit / encode, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        fit, encode, error = (
            f"{row[key]['value']:,.{digits}f} ({row[key]['min']:,.{digits}f}–{row[key]['max']:,.{digits}f})"
            if key in row
            else ""
            for key, digits in (("fit_seconds", 3), ("encode_rows_per_second", 0), ("error", 4))
        )
        memory = f"{row['fit']:.0f} / {row['encode']:.0f}" if "fit" in row else ""
        lines.append(f"| {row['case']} | `{row['method']}` | {fit} | {encode} | {error} | {memory} |")
    lines += ["", "| speed-up of ours, or ratio of errors | median (least to most of the repeats) |", "|---|---|"]
    for name, figure in results["figures"].items():
        if isinstance(figure, dict):
            lines.append(f"| `{name}` | {figure['value']:,.3g} ({figure['min']:,.3g}–{figure['max']:,.3g}) |")
    return "\n".join([*lines, "", origin(results["run"])])


if __name__ == "__main__":
    sys.exit(main())
