"""Parsing a command and running it; mistakes in the input end with one line."""

import argparse
import os
import sys
from importlib import import_module
from typing import Any

from onerec.cli.options import CommandParser
from onerec.errors import UserError
from onerec.train.memory import keep_freed_memory
from tokenizer.errors import TokenizerError

# The files of the verbs, in the order of the help.
VERBS = ("data", "config", "tokenize", "train", "run", "reward", "rsft", "align", "evaluate", "recommend")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Mistakes in the input end with one line and status 2."""
    # Idle OpenMP threads must sleep, not spin; libgomp reads this when torch is imported, later is too late.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    parser = build_parser()
    parsed, behind = parser.parse_known_args(arguments)
    # argparse takes KEY=VALUE from before the first option only; nobody who types them behind it means anything else.
    overrides = vars(parsed).get("overrides")
    if behind and (overrides is None or any(text.startswith("-") or "=" not in text for text in behind)):
        parser.error(f"unrecognized arguments: {' '.join(behind)}")
    if behind:
        parsed.overrides = [*parsed.overrides, *behind]
    try:
        parsed.function(parsed)
    except (UserError, TokenizerError) as error:
        print(f"onerec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("onerec: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from onerec import __version__

    parser = argparse.ArgumentParser(
        prog="onerec",
        description="OneRec in the open: a generative recommender with semantic IDs, from a log to a list.",
        epilog="start here: onerec demo    (trains and compares everything on MovieLens-100K)",
    )
    parser.add_argument("--version", action="version", version=f"onerec {__version__}")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for verb in VERBS:
        import_module(f"onerec.cli.{verb}").add_command(commands)
    return parser
