"""Are two runs equal to the last bit? Compares the figures, lists and weights of two run folders.

    python -m benchmarks.compare_runs runs/before runs/after

It compares the numbers in every `results.json`, the arrays in every `lists.npz`, and every file of weights. It leaves out times,
words, and the facts about where a run comes from. The exit status is 1 if anything differs or only one run has it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS_FILE, LISTS_FILE = "results.json", "lists.npz"
PROVENANCE = "run"
TIME = "second"  # a part of the names of all times and speeds
SHOWN = 20  # differences of a kind that are printed

Values = dict[str, np.ndarray]


def main() -> int:
    """Compare, and print counts and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD_RUN")
    parser.add_argument("new", type=Path, metavar="NEW_RUN")
    parsed = parser.parse_args()
    for folder in (parsed.old, parsed.new):
        if not (folder / RESULTS_FILE).is_file():
            parser.error(f"{folder}: no {RESULTS_FILE} there; name the folder of a finished run")
    differing = 0
    for kind, read in {"figures": figures_of, "arrays of lists": lists_of, "files of weights": weights_of}.items():
        old, new = read(parsed.old), read(parsed.new)
        found = differences(old, new)
        differing += len(found)
        print(
            "\n  ".join([f"{kind}: {len(old.keys() | new.keys()):,} compared, {len(found):,} differ", *found[:SHOWN]])
        )
    return int(differing > 0)


def figures_of(folder: Path) -> Values:
    """The numbers in every results file of a run, by file and key."""
    files = {path.relative_to(folder): json.loads(path.read_text("utf-8")) for path in folder.rglob(RESULTS_FILE)}
    return {
        name: np.asarray(figure, np.float64)
        for path, content in files.items()
        for name, figure in _numbers({key: value for key, value in content.items() if key != PROVENANCE}, str(path))
    }


def _numbers(content: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(content, dict):
        for key, value in content.items():
            if TIME not in key:
                yield from _numbers(value, f"{name} {key}")
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from _numbers(value, f"{name} {place}")
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield name, content


def lists_of(folder: Path) -> Values:
    """The arrays in every file of lists, without the seconds that they took."""
    found: Values = {}
    for path in folder.rglob(LISTS_FILE):
        with np.load(path) as arrays:
            found |= {f"{path.relative_to(folder)} {name}": arrays[name] for name in arrays if TIME not in name}
    return found


def weights_of(folder: Path) -> Values:
    """The bytes of every file of weights."""
    return {str(path.relative_to(folder)): np.fromfile(path, np.uint8) for path in folder.rglob("*.safetensors")}


def differences(old: Values, new: Values) -> list[str]:
    """A line for each value that differs in a bit, or that only one of the runs has."""
    lines = [f"{name}: only in the {'old' if name in old else 'new'} run" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        first, second = old[name], new[name]
        if first.shape != second.shape:
            lines.append(f"{name}: shapes {first.shape} and {second.shape}")
        elif first.tobytes() != second.tobytes():
            what = f"{np.sum(first != second):,} of {first.size:,} differ" if first.ndim else f"{first} and {second}"
            lines.append(f"{name}: {what}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
