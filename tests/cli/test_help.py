"""The help: quick, and with examples wherever somebody may look for them."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import imported_modules, onerec

from onerec.cli import entry
from onerec.cli.entry import VERBS, build_parser, main

HEAVY = {"torch", "polars", "numpy", "pydantic", "accelerate", "trl", "wandb", "sklearn", "rich"}


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and subcommand as the words that call it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (*words, name)
                yield from commands(below, (*words, name))
                yield from ((*words, name, inner) for inner in below.inner)


ALL_COMMANDS = list(commands(build_parser()))


def test_help_takes_under_half_a_second(tmp_path: Path) -> None:
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        assert onerec("--help", cwd=tmp_path).returncode == 0
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.5


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    done = onerec("--help", cwd=tmp_path, python=["-X", "importtime"])
    assert done.returncode == 0
    assert {name.partition(".")[0] for name in imported_modules(done.stderr)} & HEAVY == set()


def test_every_stage_has_its_command() -> None:
    stages = {"data", "tokenize", "train", "reward", "rsft", "align", "run", "demo", "evaluate", "recommend", "config"}
    assert stages <= {words[0] for words in ALL_COMMANDS}
    assert ("tokenize", "inspect") in ALL_COMMANDS
    assert {("data", name) for name in ("movielens", "amazon", "kuairand", "import", "check")} <= set(ALL_COMMANDS)


def test_no_file_with_a_command_is_left_out() -> None:
    files = {path.stem: path.read_text(encoding="utf-8") for path in Path(entry.__file__).parent.glob("*.py")}
    assert sorted(VERBS) == sorted(name for name, text in files.items() if "def add_command(" in text)


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_every_help_ends_with_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    _, heading, examples = capsys.readouterr().out.partition("examples:\n")
    assert heading
    named = [line for line in examples.splitlines() if line.strip().startswith("onerec ")]
    assert any(line.split()[1 : 1 + len(words)] == list(words) for line in named), examples


def test_a_command_without_arguments_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", "runs/demo"])
    assert stopped.value.code == 2
    assert "--user" in capsys.readouterr().err
