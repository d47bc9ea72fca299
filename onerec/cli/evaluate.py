"""`onerec evaluate RUN`: measure a trained run again, with other settings if wanted."""

import argparse
from pathlib import Path
from typing import Any

from onerec.cli.run import measure
from onerec.errors import UserError

MEASURED = ("recommend.", "selection.", "selection=", "reward.selection.", "evaluate.")


def add_evaluate_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained run again, with other settings if wanted",
        description="Full ranking of the catalogue for validation and test users; rewrites results.json and report.html.",
        epilog="examples:\n  onerec evaluate runs/demo\n  onerec evaluate runs/demo recommend.beam_width=200\n"
        "  onerec evaluate runs/demo selection.beam_width=600\n"
        "  onerec evaluate runs/demo recommend.exclude_seen=false evaluate.bootstrap_samples=2000\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
                "use `onerec run` for others"
            )
    opened = reopen_run(parsed.run, parsed.overrides)
    print_details(measure(opened), opened.console)
