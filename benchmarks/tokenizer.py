"""Speed, error and memory of RQ-KMeans beside faiss and scikit-learn, and of balanced k-means beside k-means-constrained.

    python -m benchmarks.tokenizer --out benchmarks/results/tokenizer-speed.json

Vectors come from the items of Amazon Beauty (a folder below $ONEREC_DATA): TF-IDF of title and categories reduced to 768
columns; for a million rows of 128 columns, random pairs of such vectors mixed at random and noise of a tenth of their
length added. All libraries use as many threads as OMP_NUM_THREADS allows (it is set to the number of cores if unset)
and take turns, so that a slow moment of the machine hits all of them. Errors are shares of the variance that codes lose.
Needs the extra `benchmarks`. `--quick` takes fewer rows and codes; its figures are no claim, and the file says so.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.output.text import markdown_table, origin, ratio_table, repeats
from benchmarks.speed.parts import measure_parts
from benchmarks.speed.timing import ratios, spread, timed

NEEDED = {"faiss": "faiss-cpu", "k_means_constrained": "k-means-constrained", "sklearn": "scikit-learn"}
Measured = tuple[dict[str, Any], list[dict[str, Any]]]


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
# Rounds of Lloyd's algorithm per level: the default of faiss, and as many as ours needs to end below its error. Ours starts
# better, and its time includes that start.
ROUNDS = {"12k": {"ours": 4, "others": 25}, "1m": {"ours": 3, "others": 25}}
BALANCED_ROUNDS = {"ours": 12, "k_means_constrained": 3}


def main() -> int:
    """Measure, print the table, write the file."""
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))  # before anything loads a BLAS
    parts = {"12k": small_part, "1m": large_part, "balanced": balanced_part, "memory": memory_part}
    config = {
        "rounds": ROUNDS,
        "balanced_rounds": BALANCED_ROUNDS,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    return measure_parts("tokenizer", __doc__, parts, markdown, needed=NEEDED, config=config)


def small_part(quick: bool) -> Measured:
    """Every item of the catalogue; the residual quantizer of faiss, which is slow to fit, is fitted once."""
    from benchmarks.speed.tokenizer_rivals import FaissKmeans, FaissResidualQuantizer, Ours, ScikitLearn

    sizes = QUICK if quick else FULL
    x_ND = item_vectors(768)[: sizes.small_rows]
    levels, rounds = list(sizes.small_level_sizes), ROUNDS["12k"]
    rivals = {
        "ours": (Ours(levels, rounds["ours"]), sizes.repeats),
        "ours_beam_5": (Ours(levels, rounds["ours"], beam_width=5), sizes.repeats),
        "faiss": (FaissKmeans(levels, rounds["others"]), sizes.repeats),
        "sklearn": (ScikitLearn(levels, rounds["others"]), sizes.repeats),
        "faiss_residual_quantizer": (FaissResidualQuantizer(levels), 1),
    }
    return compare("12k", rivals, x_ND, x_ND)


def large_part(quick: bool) -> Measured:
    """Many rows; all methods fit the same sample and encode all of them."""
    import numpy as np

    from benchmarks.speed.tokenizer_rivals import FaissKmeans, Ours, ScikitLearn

    sizes = QUICK if quick else FULL
    x_ND = mixed_rows(item_vectors(128), sizes.large_rows)
    sample_ND = x_ND[np.random.default_rng(1).permutation(len(x_ND))[: sizes.large_fit_rows]]
    levels, rounds = list(sizes.large_level_sizes), ROUNDS["1m"]
    rivals = {
        "ours": (Ours(levels, rounds["ours"]), sizes.repeats),
        "faiss": (FaissKmeans(levels, rounds["others"]), sizes.repeats),
        "sklearn": (ScikitLearn(levels, rounds["others"]), 1),
    }
    return compare("1m", rivals, sample_ND, x_ND)


def compare(part: str, rivals: dict[str, tuple[Any, int]], fit_ND: Any, encode_ND: Any) -> Measured:
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
            figures[f"{verb}_speedup_vs_{name}_{part}"] = ratios(seconds[name][verb], seconds["ours"][verb])
        figures[f"error_ratio_vs_{name}_{part}"] = ratios(errors["ours"], errors[name])
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


def balanced_part(quick: bool) -> Measured:
    """One level of equal clusters from the same random rows; ours takes more rounds, and its time includes them."""
    import numpy as np

    from benchmarks.speed.tokenizer_rivals import balanced_ours, balanced_theirs, inertia_of

    sizes = QUICK if quick else FULL
    x_ND = np.ascontiguousarray(item_vectors(128)[: sizes.balanced_rows])
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
        f"balanced_speedup_vs_{theirs}": ratios(seconds[theirs], seconds["ours"]),
        f"error_ratio_vs_{theirs}": ratios(inertia["ours"], inertia[theirs]),
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


def memory_part(quick: bool) -> Measured:
    """MiB by which a fresh process grows beyond its vectors while fitting a tenth of them, and while encoding all."""
    count = (QUICK if quick else FULL).memory_rows
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for memory_mib in MEMORY_SETTINGS:
        for method in ("rq_kmeans", "balanced_rq_kmeans"):
            command = [sys.executable, "-m", "benchmarks.speed.memory", method, str(memory_mib), str(count)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            grown = dict(zip(("fit", "encode"), map(float, answer.stdout.split()), strict=True))
            figures |= {f"peak_memory_mib_{what}_{method}_{memory_mib}": value for what, value in grown.items()}
            case = f"{count:,} x 128, 1,024 codes, memory_mib {memory_mib}"
            rows.append({"part": "memory", "case": case, "method": method, **grown})
    return figures, rows


def item_vectors(width: int) -> Any:
    """Text vectors of Beauty's items, float32 [N,width], rows of length one."""
    import polars as pl

    from tokenizer.content.encoder import ContentSpec, content_vectors

    data = os.environ.get("ONEREC_DATA")
    if not data:
        raise SystemExit("the environment variable ONEREC_DATA must name the folder that holds amazon-beauty")
    folder = Path(data) / "amazon-beauty"
    items = pl.read_parquet(folder / "items.parquet")
    return content_vectors(items, ContentSpec(text=["title", "categories"], text_dimensions=width), folder)


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


def markdown(results: dict[str, Any]) -> str:
    """The table and the ratios for terminal and docs."""
    header = ("rows", "method", "fit, seconds", "encode, rows a second", "error", "memory grown by fit / encode, MiB")
    formats = {"fit_seconds": ",.3f", "encode_rows_per_second": ",.0f", "error": ",.4f"}
    lines = [
        (
            row["case"],
            f"`{row['method']}`",
            *(repeats(row[key], spec) if key in row else "" for key, spec in formats.items()),
            f"{row['fit']:.0f} / {row['encode']:.0f}" if "fit" in row else "",
        )
        for row in results["rows"]
    ]
    ratios_shown = ratio_table("speed-up of ours, or ratio of errors", results["figures"])
    return "\n\n".join([markdown_table(header, lines), ratios_shown, origin(results["run"])])


if __name__ == "__main__":
    sys.exit(main())
