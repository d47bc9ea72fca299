"""The trees that README and architecture page draw are the repository's, and paths that pages name are there."""

import re
from pathlib import Path

import pytest

from benchmarks.result_tables import PAGES, README

ROOT = README.parent
ROOMS = ("onerec", "tokenizer", "rl")
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md"]
PATH = re.compile(r"`((?:onerec|tokenizer|rl|tests|configs|benchmarks|docs)/[\w/.<>-]*)`")


def drawn_folders(page: Path) -> set[str]:
    """Folders that the tree of a page names, from the repository's root; every level is indented by two spaces."""
    text = page.read_text(encoding="utf-8")
    tree = next(
        block for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "\ntokenizer/" in block
    )
    found, above = set(), ""
    for indent, name in re.findall(r"^( *)([\w]+)/", tree, re.MULTILINE):
        above = above if indent else name
        found.add(f"{above}/{name}" if indent else name)
    return found


def rooms_of(package: str) -> set[str]:
    """The packages directly below one."""
    return {f"{package}/{folder.parent.name}" for folder in (ROOT / package).glob("*/__init__.py")}


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "architecture.md"], ids=lambda page: page.name)
def test_the_tree_is_the_repositorys(page: Path) -> None:
    drawn = drawn_folders(page)
    assert [folder for folder in sorted(drawn) if not (ROOT / folder).is_dir()] == []
    assert sorted((rooms_of("onerec") | rooms_of("tokenizer") | set(ROOMS)) - drawn) == []


def test_named_paths_are_there() -> None:
    lost = []
    for page in PROSE:
        for path in PATH.findall(page.read_text(encoding="utf-8")):
            certain = path.partition("<")[0].rpartition("/")[0] if "<" in path else path
            if not (ROOT / certain).exists():
                lost.append(f"{page.name}: {path}")
    assert lost == []
