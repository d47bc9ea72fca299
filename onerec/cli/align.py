"""`onerec align …`: align the trained generator with rewards and measure the change."""

import argparse
import sys
from typing import Any

from onerec.cli.options import add_config_command, open_configured
from onerec.errors import UserError

EXAMPLES = """examples:
  onerec align configs/kuairand.yaml --objective gbpo
  onerec align configs/beauty.yaml --objective ecpo --reward hit --reward rank=0.5
  onerec align configs/demo.yaml align.prompts.share=0.2 align.steps=50 --objective ipa
  onerec align configs/kuairand.yaml --reward p_score --track wandb          # WANDB_MODE=offline without a network
  onerec align configs/own.yaml --objective gbpo --reward duration_aware     # logged exposures alone; needs play times
"""
REWARDS = {
    "p_score": "align.rewards.p_score",
    "hit": "align.rewards.hit",
    "rank": "align.rewards.rank",
    "format": "align.format.weight",
    "duration_aware": "align.exposures.weight",
}


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `align`."""
    text = "align the trained generator with rewards, or resume where a killed run stopped, and measure the change"
    parser = add_config_command(commands, "align", align, text, EXAMPLES, tracked=True)
    parser.add_argument("--objective", metavar="NAME", help="ecpo, gbpo, grpo, dpo or ipa (align.objective)")
    parser.add_argument(
        "--reward",
        action="append",
        metavar="NAME[=WEIGHT]",
        help=f"{', '.join(REWARDS)}; can be given several times; a reward that is not given has weight 0 (align.rewards)",
    )


def align(parsed: argparse.Namespace) -> None:
    """`onerec align CONFIG`."""
    from rl.alignment.evaluation import evaluate_alignment, print_alignment
    from rl.alignment.stage import align_generator

    parsed.overrides = [*reward_overrides(parsed.reward), *parsed.overrides]
    if parsed.objective:
        parsed.overrides.append(f"align.objective={parsed.objective}")
    run = open_configured(parsed)
    folder = align_generator(run)
    results = evaluate_alignment(run, command=" ".join(["onerec", *sys.argv[1:]]))
    print_alignment(results, run.console)
    run.say(f"aligned generator: {folder}")


def reward_overrides(named: list[str] | None) -> list[str]:
    """Overrides that give the named rewards their weights and all others 0. No overrides if no reward is named.

    Raises:
        UserError: a reward is unknown.
    """
    if not named:
        return []
    weights = dict.fromkeys(REWARDS, "0")
    for text in named:
        name, _, weight = text.partition("=")
        if name not in REWARDS:
            raise UserError(f'--reward {text}: there is no reward "{name}"; choose from {", ".join(REWARDS)}')
        weights[name] = weight or "1"
    return [f"{REWARDS[name]}={weight}" for name, weight in weights.items()]
