"""`onerec reward …`: train the reward model and measure it on held-out impressions."""

import argparse
from typing import Any

from onerec.cli_options import add_config_command, open_configured

EXAMPLES = """examples:
  onerec reward configs/kuairand.yaml dataset.folder=data/kuairand-pure
  onerec reward configs/kuairand.yaml reward.half=first      # and one to judge it by: reward.half=second
  onerec reward configs/demo.yaml reward.train.epochs=3
"""


def add_reward_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `reward`."""
    text = "train the reward model (P-Score); goes on where a killed run stopped, then measures it on the test part"
    add_config_command(commands, "reward", reward, text, EXAMPLES, tracked=True)


def reward(parsed: argparse.Namespace) -> None:
    """`onerec reward CONFIG`."""
    from rl.reward_model import evaluate_reward_model, reward_section, reward_stage, train_reward_model
    from rl.reward_table import print_reward_table

    run = open_configured(parsed)
    section = reward_section(run)
    train_reward_model(run, section)
    if run.state.is_main_process:
        print_reward_table(evaluate_reward_model(run, section), run.console)
    run.say(f"reward model: {reward_stage(run, section).folder}")
