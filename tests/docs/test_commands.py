"""Every command that README and docs show is one the program accepts, and the README's tables are those of the results files."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.result_tables import PAGES, README, with_tables
from onerec.cli.entry import build_parser

ROOT = README.parent
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def shown_commands() -> list[tuple[str, str]]:
    """(page, command) of every command line in a code block; comments and line continuations are resolved."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r"\s+#\s", line.rstrip())[0]
                if re.match(r"(onerec|make|accelerate launch|python -m benchmarks\.\w+)( |$)", command):
                    found.append((page.name, command))
    return found


COMMANDS = shown_commands()


def test_there_are_commands_to_check() -> None:
    assert sum(page == "README.md" for page, _ in COMMANDS) >= 8


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_a_shown_command_is_accepted(page: str, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "accelerate":
        words = words[words.index("onerec.cli") :]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[0] == "python":
        assert find_spec(words[2]) is not None
    else:
        parsed = build_parser().parse_args(words[1:])
        config = getattr(parsed, "config", None)
        assert config is None or (ROOT / config).is_file(), f"{page} names {config}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_show_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python -m benchmarks.result_tables"
