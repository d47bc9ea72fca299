"""`onerec evaluate RUN`: measure a trained run again, with other settings if wanted."""

import argparse
from pathlib import Path

from onerec.cli.options import Commands, add_command
from onerec.cli.run import measure
from onerec.errors import UserError

MEASURED = ("recommend.", "selection.", "selection=", "reward.selection.", "evaluate.")


EXAMPLES = """examples:
  onerec evaluate runs/demo
  onerec evaluate runs/demo recommend.beam_width=200
  onerec evaluate runs/demo selection.beam_width=600
  onerec evaluate runs/demo recommend.exclude_seen=false evaluate.bootstrap_samples=2000
"""
KEYS = "keys under recommend., selection., reward.selection. and evaluate."


def add_evaluate_command(commands: Commands) -> None:
    """Add `evaluate`."""
    text = "measure a trained run again, with other settings if wanted"
    about = "Full ranking of the catalogue for validation and test users; rewrites results.json and report.html."
    parser = add_command(commands, "evaluate", evaluate, text, EXAMPLES, about=about)
    parser.add_argument("run", type=Path, help="folder of a run, such as runs/demo")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=KEYS)


def evaluate(parsed: argparse.Namespace) -> None:
    """`onerec evaluate RUN`."""
    from onerec.report.terminal import print_details
    from onerec.run.opening import reopen_run

    for override in parsed.overrides:
        if not override.startswith(MEASURED):
            raise UserError(f'"{override}": evaluate takes {KEYS}; use `onerec run` for others')
    opened = reopen_run(parsed.run, parsed.overrides)
    print_details(measure(opened), opened.console)
