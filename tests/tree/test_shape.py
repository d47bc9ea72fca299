"""The shape of the tree: imports never run in a circle, rooms stay few, files stay short.

import-linter holds the order of the rooms (`tool.importlinter` in pyproject.toml), also between `onerec` and `rl`.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tokenizer", "onerec", "rl", "benchmarks")
ROOMS = {"onerec": 14, "tokenizer": 12, "rl": 8}
LONGEST_FILE = 400


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """The names that a file imports, wherever in the file, for types alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def dependencies() -> dict[str, set[str]]:
    """For every module those that it imports; a name from inside a module counts as the module."""
    known = modules()
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for target in imported(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target and target != name:
                found[name].add(target)
    return found


def siblings(edges: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """For every package its children, modules and packages alike, and which of them import which."""
    graphs: dict[str, dict[str, set[str]]] = {}
    for source, targets in edges.items():
        for target in targets:
            first, second = source.split("."), target.split(".")
            depth = next((i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
            if depth is None:  # one lies inside the other: a package's own file
                continue
            graph = graphs.setdefault(".".join(first[:depth]), {})
            graph.setdefault(first[depth], set()).add(second[depth])
    return graphs


@pytest.mark.parametrize("package", sorted(name for name in siblings(dependencies()) if name))
def test_no_circle_of_imports(package: str) -> None:
    try:
        TopologicalSorter(siblings(dependencies())[package]).prepare()
    except CycleError as error:
        pytest.fail(f"in {package or 'the top level'}: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_at_the_top_are_few(package: str) -> None:
    unseen = {"__init__.py", "py.typed", "__pycache__"}
    rooms = sorted(path.name for path in (ROOT / package).iterdir() if path.name not in unseen)
    assert len(rooms) <= ROOMS[package], rooms


def test_no_file_is_long() -> None:
    files = [
        path
        for name in (*PACKAGES, "tests")
        for ending in ("py", "jinja", "js", "css")
        for path in (ROOT / name).rglob(f"*.{ending}")
    ]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE}
