"""`onerec reward …`: train the reward model and measure it on held-out impressions."""

import argparse
from typing import Any

from onerec.cli.options import add_config_command, open_configured

EXAMPLES = """examples:
  onerec reward configs/kuairand.yaml dataset.folder=data/kuairand-pure
  onerec reward configs/kuairand.yaml reward.half=first      # reward.half=second trains its judge
  onerec reward configs/demo.yaml reward.train.epochs=3
"""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `reward`."""
    text = "train the reward model (P-Score), or resume where a killed run stopped, and measure it on the test part"
    add_config_command(commands, "reward", reward, text, EXAMPLES, tracked=True)


def reward(parsed: argparse.Namespace) -> None:
    """`onerec reward CONFIG`."""
    from rl.config.run import config_of
    from rl.reward_model.choice import reward_section, stage_name
    from rl.reward_model.stage import RewardEvaluationStage
    from rl.reward_model.table import print_reward_table

    run = open_configured(parsed)
    name = stage_name(reward_section(config_of(run)).half)
    folder = run.make(name)
    if run.state.is_main_process:
        evaluation = run.stages[f"{name}/evaluation"]
        assert isinstance(evaluation, RewardEvaluationStage)
        print_reward_table(evaluation.figures(run), run.console)
    run.say(f"reward model: {folder}")
