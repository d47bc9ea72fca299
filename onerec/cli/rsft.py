"""`onerec rsft …`: train the generator further on the sessions that were watched most, and measure the change."""

import argparse
import sys
from typing import Any

from onerec.cli.options import add_config_command, open_configured

EXAMPLES = """examples:
  onerec rsft configs/own.yaml name=mine dataset.folder=data/mine rsft.session_gap=1800
  onerec rsft configs/own.yaml name=mine dataset.folder=data/mine rsft.session_events=20 rsft.dropped_share=0.3
  onerec rsft configs/own.yaml rsft.session_gap=1800 --track wandb          # WANDB_MODE=offline without a network
"""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `rsft`."""
    text = (
        "train the generator further without the sessions watched least, or resume a killed run, and measure the change"
    )
    add_config_command(commands, "rsft", rsft, text, EXAMPLES, tracked=True)


def rsft(parsed: argparse.Namespace) -> None:
    """`onerec rsft CONFIG`."""
    from rl.alignment.evaluation import evaluate_rsft, print_alignment
    from rl.rsft.stage import train_rsft

    run = open_configured(parsed)
    folder = train_rsft(run)
    if run.state.is_main_process:
        print_alignment(evaluate_rsft(run, command=" ".join(["onerec", *sys.argv[1:]])), run.console)
    run.say(f"generator after RSFT: {folder}")
