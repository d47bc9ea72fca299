"""`onerec rsft …`: train the generator on with the sessions that were watched most, and measure what that has changed."""

import argparse
import sys

from onerec.cli.options import Commands, add_config_command, open_configured

EXAMPLES = """examples:
  onerec rsft configs/own.yaml name=mine dataset.folder=data/mine rsft.session_gap=1800
  onerec rsft configs/own.yaml name=mine dataset.folder=data/mine rsft.session_events=20 rsft.dropped_share=0.3
  onerec rsft configs/own.yaml rsft.session_gap=1800 --track wandb          # WANDB_MODE=offline without a network
"""


def add_rsft_command(commands: Commands) -> None:
    """Add `rsft`."""
    text = "train the generator on without the sessions watched least; goes on where a killed run stopped, then measures it"
    add_config_command(commands, "rsft", rsft, text, EXAMPLES)


def rsft(parsed: argparse.Namespace) -> None:
    """`onerec rsft CONFIG`."""
    from rl.alignment.evaluation import evaluate_rsft, print_alignment
    from rl.rsft.stage import train_rsft

    run = open_configured(parsed)
    folder = train_rsft(run)
    if run.state.is_main_process:
        print_alignment(evaluate_rsft(run, command=" ".join(["onerec", *sys.argv[1:]])), run.console)
    run.say(f"generator after RSFT: {folder}")
