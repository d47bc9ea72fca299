"""`onerec train CONFIG`: semantic IDs, the generator, selection from its beam, and the trained baselines."""

import argparse
from typing import Any

from onerec.cli.options import add_config_command, open_configured

EXAMPLES = """examples:
  onerec train configs/beauty.yaml dataset.folder=data/amazon-beauty
  onerec train configs/beauty.yaml --track wandb          # WANDB_MODE=offline without a network
  accelerate launch --multi_gpu --num_processes 2 --module onerec.cli train configs/beauty.yaml   # on CPUs too
"""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `train`."""
    text = "train semantic IDs, generator, selection and trained baselines, or resume where a killed run stopped"
    add_config_command(commands, "train", train, text, EXAMPLES, tracked=True)


def train(parsed: argparse.Namespace) -> None:
    """`onerec train CONFIG`."""
    from onerec.run.opening import own_stages

    run = open_configured(parsed)
    run.make_all([stage.name for stage in own_stages()])
    run.say(f"trained: {run.folder / 'generator'}")
