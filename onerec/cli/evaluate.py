"""`onerec evaluate RUN`: measure a trained run again, if you like with other settings."""

import argparse
from pathlib import Path
from typing import Any

from onerec.cli.options import add_parser
from onerec.cli.run import measure
from onerec.errors import UserError

MEASURED = ("recommend.", "selection.", "selection=", "reward.selection.", "evaluate.")


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `evaluate`."""
    parser = add_parser(
        commands,
        "evaluate",
        "measure a trained run again, if you like with other settings",
        "examples:\n  onerec evaluate runs/demo\n  onerec evaluate runs/demo recommend.beam_width=200\n"
        "  onerec evaluate runs/demo selection.beam_width=600\n"
        "  onerec evaluate runs/demo recommend.exclude_seen=false evaluate.bootstrap_samples=2000\n",
        description="Rank the whole catalogue for validation and test users, and rewrite results.json and report.html.",
    )
    parser.add_argument("run", type=Path, help="folder of a run, such as runs/demo")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="keys under recommend., selection., reward.selection. or evaluate.",
    )
    parser.set_defaults(function=evaluate)


def evaluate(parsed: argparse.Namespace) -> None:
    """`onerec evaluate RUN`."""
    from onerec.report.terminal import print_details
    from onerec.run.opening import reopen_run

    for override in parsed.overrides:
        if not override.startswith(MEASURED):
            raise UserError(
                f'"{override}": evaluate takes keys under recommend., selection., reward.selection. and evaluate.; '
                "other keys need `onerec run`"
            )
    opened = reopen_run(parsed.run, parsed.overrides)
    print_details(measure(opened), opened.console)
