"""The command line that benchmarks of several parts share: which parts, the facts of the run, the table, the file."""

import argparse
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.output.results_file import run_facts, write_results_file

# Measures one part, quickly or not: figures by name, and rows.
Part = Callable[[bool], tuple[dict[str, Any], list[dict[str, Any]]]]


def measure_parts(
    name: str,
    description: str | None,
    parts: Mapping[str, Part],
    markdown: Callable[[dict[str, Any]], str],
    *,
    needed: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> int:
    """Measure the parts that the command line asks for, print the table, write the file.

    Args:
        name: of the benchmark's module.
        description: what `--help` says.
        parts: by name, what measures them.
        markdown: results to a table.
        needed: modules of the extra `benchmarks` that it compares with, and the distributions that bring them.
        config: settings that the file names.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=tuple(parts), action="append", help="parts to measure")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    packages = needed or {}
    if missing := [package for module, package in packages.items() if find_spec(module) is None]:
        parser.error(f"this benchmark compares with {', '.join(missing)}: install the extra `benchmarks`")
    import torch

    from onerec.train.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    started = time.time()
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for part in parsed.only or parts:
        more_figures, more_rows = parts[part](parsed.quick)
        figures |= more_figures
        rows += more_rows
    settings = {"threads": torch.get_num_threads(), **(config or {})}
    facts = {"quick": parsed.quick, "seed": 0, "seconds": time.time() - started, "config": settings}
    run = run_facts(name, **facts)
    run["versions"] |= {package: metadata.version(package) for package in packages.values()}
    results = {"run": run, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0
