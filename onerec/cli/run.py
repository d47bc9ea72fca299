"""`onerec run CONFIG` and `onerec demo`: all stages, then the figures and the report."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from onerec.cli.options import add_config_command, add_parser, add_run_options, open_configured

if TYPE_CHECKING:
    from onerec.run.run import Run

EXAMPLES = """examples:
  onerec run configs/demo.yaml
  onerec run configs/beauty.yaml dataset.folder=data/amazon-beauty train.epochs=20
  onerec run configs/own.yaml name=mine dataset.folder=data/mine --track wandb
  onerec run configs/own.yaml after_training=[reward,align]    # also reward models, alignment and selection by reward
  accelerate launch --multi_gpu --num_processes 2 --module onerec.cli run configs/beauty.yaml   # on CPUs too
"""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `run` and `demo`."""
    text = "do every stage of a config that is not done yet, then write results and report"
    add_config_command(commands, "run", run, text, EXAMPLES, tracked=True)
    text, examples = (
        "run the whole pipeline on MovieLens-100K",
        "examples:\n  onerec demo\n  onerec demo train.epochs=5\n",
    )
    description = "Run configs/demo.yaml: fetch MovieLens-100K, tokenize, train, align, compare, report."
    parser = add_parser(commands, "demo", text, examples, description=description)
    add_run_options(parser, tracked=True)
    parser.set_defaults(function=demo)


def run(parsed: argparse.Namespace) -> None:
    """`onerec run CONFIG`."""
    from onerec.run.opening import complete

    opened = open_configured(parsed)
    complete(opened)
    if opened.state.is_main_process:
        measure(opened)


def demo(parsed: argparse.Namespace) -> None:
    """`onerec demo`."""
    from onerec.run.config_files import shipped_config

    parsed.config = shipped_config("demo.yaml")
    run(parsed)


def measure(opened: "Run") -> dict[str, Any]:
    """Measure a trained run, write results and report, and print the comparison. Returns the results."""
    from onerec.report.report import write_report
    from onerec.report.terminal import print_comparison
    from onerec.run.results import write_results

    results = write_results(opened, " ".join(["onerec", *sys.argv[1:]]))
    write_report(opened.folder)
    print_comparison(results, opened.folder, opened.console)
    return results
