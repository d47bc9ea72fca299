"""Links between pages lead to files and headings that are there, and Python that the pages show imports."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.result_tables import PAGES, README

ROOT = README.parent
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings: lower case, no punctuation, dashes for spaces, numbers for repeats."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(name if name not in found else f"{name}-{found[name]}")
        found[name] = found.get(name, 0) + 1
    return names


def links(page: Path) -> list[str]:
    """Targets of the links of a page, those of pictures included, code left out."""
    return LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))


def broken(page: Path) -> list[str]:
    """Relative links of a page whose file or heading is not there."""
    lost = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        if not file.exists() or (anchor and (file.suffix != ".md" or anchor not in anchors(file))):
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_every_relative_link_and_anchor_is_there(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Two words, a comma\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Own\n[a](other.md#two-words-a-comma) [b](other.md#twice-1) [c](#own) [d](https://nowhere.invalid/x#y)\n"
        "[e](missing.md) [f](other.md#no-heading) [g](#other) ![h](missing.svg)\n```\n[i](only-code.md)\n```\n"
    )
    assert broken(page) == ["missing.md", "other.md#no-heading", "#other", "missing.svg"]


def test_the_readme_links_every_page() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    assert [page.name for page in PAGES if page != README and page.resolve() not in linked] == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_one_main_heading_a_page(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    assert text.startswith("# ") and len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def imported_names() -> list[tuple[str, str, str]]:
    """(page, module, name) of every import in a block of Python."""
    found = []
    for page in PROSE:
        for language, block in CODE.findall(page.read_text(encoding="utf-8")):
            if language == "python":
                nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
                found += [(page.name, str(node.module), alias.name) for node in nodes for alias in node.names]
    return found


def test_shown_python_imports() -> None:
    names = imported_names()
    assert any(module.startswith("onerec.") for _, module, _ in names)
    lost = [entry for entry in names if not hasattr(import_module(entry[1]), entry[2])]
    assert lost == []


def test_the_readme_is_short_and_lines_of_prose_fit() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
    for page in PROSE:
        text = re.sub(r"<!-- results: .*?<!-- end results -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        long = [line for line in CODE.sub("", text).splitlines() if len(line) > 130 and not line.startswith("|")]
        assert long == [], page.name
