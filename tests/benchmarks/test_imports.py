"""The shape of `benchmarks`: no import cycle, no long file, and every command says what it does."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(benchmarks.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
# What the speed benchmarks start in processes of their own takes no options.
COMMANDS = [name for name, path in FILES.items() if "def main()" in path.read_text() and ".speed." not in name]


def imported(path: Path) -> set[str]:
    """Modules of `benchmarks` that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & FILES.keys() - {"benchmarks"}


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imported(path) for name, path in FILES.items()}
    assert "benchmarks.study.cells" in graph["benchmarks.study.study"]
    with pytest.raises(CycleError):
        TopologicalSorter({**graph, "benchmarks.study.cells": {"benchmarks.decoders"}}).prepare()
    TopologicalSorter(graph).prepare()


def test_no_file_is_long() -> None:
    assert {name: lines for name, path in FILES.items() if (lines := len(path.read_text().splitlines())) > 400} == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"python -m {name.removesuffix('.__main__')}"
    module = import_module(name)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert command in said
