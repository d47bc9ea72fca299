"""`onerec recommend RUN`: print a recommended list for a user or a history."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onerec.cli.options import add_parser

if TYPE_CHECKING:
    from onerec.recommenders.recommender import Recommender


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `recommend`."""
    parser = add_parser(
        commands,
        "recommend",
        "print a recommended list for a user or a history",
        "examples:\n  onerec recommend runs/demo --user 42\n  onerec recommend runs/demo --history 50 181 258 --count 5\n"
        "  onerec recommend runs/demo --user 42 --include-seen\n  onerec recommend runs/demo --user 42 --aligned ecpo\n"
        "  onerec recommend runs/mine --user 42 --rsft\n",
        description="Recommend with the generator of a run, and with selection from its beam if the run has it.",
    )
    parser.add_argument("run", type=Path, help="folder of a trained run, such as runs/demo")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", help="id of a user of the dataset; the history is all of the user's events")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="item ids, oldest first")
    parser.add_argument("--count", type=int, default=10, help="items to list (default: 10)")
    parser.add_argument("--include-seen", action="store_true", help="allow items of the history in the list")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--aligned", metavar="OBJECTIVE", help="use the beam of the generator that `onerec align` made")
    which.add_argument("--rsft", action="store_true", help="use the beam of the generator that `onerec rsft` made")
    parser.set_defaults(function=recommend)


def recommend(parsed: argparse.Namespace) -> None:
    """`onerec recommend RUN --user … | --history …`."""
    from onerec.report.listing import print_list, request_of
    from onerec.run.opening import reopen_run
    from onerec.run.stages.generator import load_generator
    from onerec.run.stages.selection import load_selection

    run = reopen_run(parsed.run, [])
    request = request_of(run, parsed.user, parsed.history, parsed.count)
    recommender: Recommender
    selected = not (parsed.aligned or parsed.rsft) and run.config.selection is not None
    if parsed.aligned:
        from rl.alignment.stage import load_aligned

        recommender = load_aligned(run, parsed.aligned)
    elif parsed.rsft:
        from rl.rsft.stage import load_rsft

        recommender = load_rsft(run)
    else:
        recommender = load_selection(run) if selected else load_generator(run)
    lists = recommender.recommend(request, parsed.count, exclude_seen=not parsed.include_seen)
    print_list(run, parsed.user, request, lists, selected=selected)
