"""The command line: `onerec …`, one thin function per command, heavy imports inside the functions."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onerec.cli_options import CommandParser, add_config_command, add_run_options, open_configured
from onerec.errors import UserError
from onerec.memory import keep_freed_memory
from tokenizer.errors import TokenizerError

if TYPE_CHECKING:
    from onerec.pipeline import Run

RUN_EXAMPLES = """examples:
  onerec run configs/demo.yaml
  onerec run configs/beauty.yaml dataset.folder=data/amazon-beauty train.epochs=20
  onerec run configs/own.yaml name=mine dataset.folder=data/mine --track wandb
  onerec run configs/own.yaml after_training=[reward,align]    # also reward models, alignment and selection by reward
  accelerate launch --multi_gpu --num_processes 2 --module onerec.cli run configs/beauty.yaml   # on CPUs too
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Mistakes in the input end with one line and status 2."""
    # Idle OpenMP threads must sleep, not spin; libgomp reads this when torch is imported, later is too late.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    parser = build_parser()
    parsed, behind = parser.parse_known_args(arguments)
    # argparse takes KEY=VALUE from before the first option only; nobody who types them behind it means anything else.
    overrides = vars(parsed).get("overrides")
    if behind and (overrides is None or any(text.startswith("-") or "=" not in text for text in behind)):
        parser.error(f"unrecognized arguments: {' '.join(behind)}")
    if behind:
        parsed.overrides = [*parsed.overrides, *behind]
    try:
        parsed.function(parsed)
    except (UserError, TokenizerError) as error:
        print(f"onerec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("onerec: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from onerec import __version__
    from onerec.cli_align import add_align_command
    from onerec.cli_data import add_data_commands
    from onerec.cli_reward import add_reward_command
    from onerec.cli_rsft import add_rsft_command
    from onerec.cli_tokenize import add_tokenize_command

    parser = argparse.ArgumentParser(
        prog="onerec",
        description="OneRec in the open: a generative recommender with semantic IDs, from a log to a list.",
        epilog="start here: onerec demo    (trains and compares everything on MovieLens-100K)",
    )
    parser.add_argument("--version", action="version", version=f"onerec {__version__}")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    add_data_commands(commands)
    add_tokenize_command(commands)
    add_config_command(
        commands,
        "train",
        train,
        "train the generator (and SASRec); goes on where a killed run stopped",
        "examples:\n  onerec train configs/beauty.yaml dataset.folder=data/amazon-beauty\n"
        "  onerec train configs/beauty.yaml --track wandb          # WANDB_MODE=offline without a network\n"
        "  accelerate launch --multi_gpu --num_processes 2 --module onerec.cli train configs/beauty.yaml   # on CPUs too\n",
        tracked=True,
    )
    add_config_command(
        commands,
        "run",
        run,
        "do all stages of a config, skip what is done, write results and report",
        RUN_EXAMPLES,
        tracked=True,
    )
    add_reward_command(commands)
    add_rsft_command(commands)
    add_align_command(commands)
    demo_parser = commands.add_parser(
        "demo",
        help="the whole pipeline on MovieLens-100K",
        description="Run configs/demo.yaml: fetch MovieLens-100K, tokenize, train, align, compare, report.",
        epilog="examples:\n  onerec demo\n  onerec demo train.epochs=5\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(demo_parser, tracked=True)
    demo_parser.set_defaults(function=demo)
    evaluate_parser = commands.add_parser(
        "evaluate",
        help="measure a trained run again, with other settings if wanted",
        description="Full ranking of the catalogue for validation and test users; rewrites results.json and report.html.",
        epilog="examples:\n  onerec evaluate runs/demo\n  onerec evaluate runs/demo recommend.beam_width=200\n"
        "  onerec evaluate runs/demo selection.beam_width=600\n"
        "  onerec evaluate runs/demo recommend.exclude_seen=false evaluate.bootstrap_samples=2000\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate_parser.add_argument("run", type=Path, help="folder of a run, such as runs/demo")
    evaluate_parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="keys under recommend., selection., reward.selection. or evaluate.",
    )
    evaluate_parser.set_defaults(function=evaluate)
    _add_recommend(commands)
    return parser


def _add_recommend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "recommend",
        help="print a readable list for a user or a history",
        description="Recommend with the generator of a run.",
        epilog="examples:\n  onerec recommend runs/demo --user 42\n  onerec recommend runs/demo --history 50 181 258 --count 5\n"
        "  onerec recommend runs/demo --user 42 --include-seen\n  onerec recommend runs/demo --user 42 --aligned ecpo\n"
        "  onerec recommend runs/mine --user 42 --rsft\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of a trained run, such as runs/demo")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", help="id of a user of the dataset; all of the user's events are the history")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="item ids, oldest first")
    parser.add_argument("--count", type=int, default=10, help="items to list (default: 10)")
    parser.add_argument("--include-seen", action="store_true", help="allow items of the history in the list")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--aligned", metavar="OBJECTIVE", help="the generator that `onerec align` left, its beam as it is"
    )
    which.add_argument("--rsft", action="store_true", help="the generator that `onerec rsft` left, its beam as it is")
    parser.set_defaults(function=recommend)


def train(parsed: argparse.Namespace) -> None:
    """`onerec train CONFIG`."""
    run = open_configured(parsed)
    run.train()
    run.say(f"trained: {run.generator_stage.folder}")


def run(parsed: argparse.Namespace) -> None:
    """`onerec run CONFIG`."""
    _complete(open_configured(parsed))


def demo(parsed: argparse.Namespace) -> None:
    """`onerec demo`."""
    parsed.config = shipped_config("demo.yaml")
    _complete(open_configured(parsed))


def evaluate(parsed: argparse.Namespace) -> None:
    """`onerec evaluate RUN`."""
    from onerec.pipeline import reopen_run
    from onerec.report.terminal import print_details

    for override in parsed.overrides:
        if not override.startswith(("recommend.", "selection.", "selection=", "reward.selection.", "evaluate.")):
            raise UserError(
                f'"{override}": evaluate takes keys under recommend., selection., reward.selection. and evaluate.; '
                "use `onerec run` for others"
            )
    opened = reopen_run(parsed.run, parsed.overrides)
    print_details(_measure(opened), opened.console)


def recommend(parsed: argparse.Namespace) -> None:
    """`onerec recommend RUN --user … | --history …`."""
    from onerec.listing import print_list
    from onerec.pipeline import reopen_run

    opened = reopen_run(parsed.run, [])
    generator = None
    if parsed.aligned:
        from rl.align import load_aligned

        generator = load_aligned(opened, parsed.aligned)
    elif parsed.rsft:
        from rl.rsft_stage import load_rsft

        generator = load_rsft(opened)
    exclude_seen = not parsed.include_seen
    print_list(opened, parsed.user, parsed.history, parsed.count, exclude_seen=exclude_seen, generator=generator)


def shipped_config(name: str) -> Path:
    """A config that comes with the project: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def _complete(opened: "Run") -> None:
    from rl.stages import check_stages, train_stages

    check_stages(opened)
    opened.train()
    train_stages(opened)
    if opened.state.is_main_process:
        _measure(opened)


def _measure(opened: "Run") -> dict[str, Any]:
    from onerec.evaluate.results import write_results
    from onerec.report.report import write_report
    from onerec.report.terminal import print_comparison
    from rl.stages import further_of

    results = write_results(opened, " ".join(["onerec", *sys.argv[1:]]), further_of(opened))
    write_report(opened.folder)
    print_comparison(results, opened.folder, opened.console)
    return results


if __name__ == "__main__":
    sys.exit(main())
