"""Parsing a command and running it; mistakes in the input end with one line."""

import argparse
import os
import sys
from typing import Any

from onerec.cli.options import CommandParser
from onerec.errors import UserError
from onerec.train.memory import keep_freed_memory
from tokenizer.errors import TokenizerError


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
    from onerec.cli.align import add_align_command
    from onerec.cli.config import add_config_command
    from onerec.cli.data import add_data_commands
    from onerec.cli.evaluate import add_evaluate_command
    from onerec.cli.recommend import add_recommend_command
    from onerec.cli.reward import add_reward_command
    from onerec.cli.rsft import add_rsft_command
    from onerec.cli.run import add_demo_command, add_run_command
    from onerec.cli.tokenize import add_tokenize_command
    from onerec.cli.train import add_train_command

    parser = argparse.ArgumentParser(
        prog="onerec",
        description="OneRec in the open: a generative recommender with semantic IDs, from a log to a list.",
        epilog="start here: onerec demo    (trains and compares everything on MovieLens-100K)",
    )
    parser.add_argument("--version", action="version", version=f"onerec {__version__}")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for add in (
        add_data_commands,
        add_config_command,
        add_tokenize_command,
        add_train_command,
        add_run_command,
        add_reward_command,
        add_rsft_command,
        add_align_command,
        add_demo_command,
        add_evaluate_command,
        add_recommend_command,
    ):
        add(commands)
    return parser
