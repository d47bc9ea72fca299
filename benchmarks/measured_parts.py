"""The command line that benchmarks of several parts share: which parts, the facts of the run, the table, the file."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results_file

Part = Callable[[bool], tuple[dict[str, Any], list[dict[str, Any]]]]


def measure_parts(
    name: str, description: str | None, parts: dict[str, Part], markdown: Callable[[dict[str, Any]], str]
) -> int:
    """Measure the parts that the command line asks for, print the table, write the file.

    Args:
        name: of the benchmark's module.
        description: what `--help` says.
        parts: by name, what gives figures and rows; called with whether to be quick.
        markdown: results to a table.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=tuple(parts), action="append", help="parts to measure")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    import torch

    from onerec.run.provenance import code_version, machine, versions
    from onerec.train.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    started = time.time()
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for part in parsed.only or parts:
        more_figures, more_rows = parts[part](parsed.quick)
        figures |= more_figures
        rows += more_rows
    commit, dirty = code_version()
    run = {"name": name, "quick": parsed.quick, "commit": commit, "dirty": dirty, "seed": 0}
    run |= {"versions": versions(), "machine": machine(), "seconds": time.time() - started}
    run |= {"config": {"threads": torch.get_num_threads()}}
    run |= {"command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])}
    results = {"run": run, "figures": figures, "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0
