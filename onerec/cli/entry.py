"""Parsing a command and running it; mistakes in the input end with one line."""

import argparse
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from onerec.cli.boundary import in_words
from onerec.cli.options import CommandParser
from onerec.train.memory import keep_freed_memory

# The files of the verbs, in the order of the help.
VERBS = ("data", "config", "tokenize", "train", "run", "reward", "rsft", "align", "evaluate", "recommend")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Mistakes in the input end with one line and status 2."""
    # Idle OpenMP threads must sleep, not spin; libgomp reads this when torch is imported, later is too late.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no UTF-8 gets escapes
            stream.reconfigure(errors="backslashreplace")
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
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more. Python would complain while it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        resumable = getattr(parsed, "track", None) is not None or hasattr(parsed, "redo")
        safe = "the same command goes on from the last checkpoint" if resumable else "nothing is left half-made"
        print(f"onerec: stopped; {safe}", file=sys.stderr)
        return 130
    except Exception as error:
        if (words := in_words(error)) is None:
            raise
        print(f"onerec: {words}", file=sys.stderr)
        return 2
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
