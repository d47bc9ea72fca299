"""`onerec tokenize …`: make semantic IDs, give new items IDs, browse the IDs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onerec.cli.options import add_config_command, open_configured

if TYPE_CHECKING:
    from onerec.run.run import Run

USAGE = """onerec tokenize CONFIG [KEY=VALUE ...] [--append] [--runs RUNS]
       onerec tokenize inspect RUN"""
EXAMPLES = """examples:
  onerec tokenize configs/beauty.yaml dataset.folder=data/amazon-beauty
  onerec tokenize configs/own.yaml dataset.folder=data/mine tokenizer.quantizer.method=rq_vae
  onerec tokenize configs/own.yaml dataset.folder=data/mine --append    # after the items table has gained rows
  onerec tokenize inspect runs/mine                                     # a page to browse the IDs
"""


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `tokenize`, and `tokenize inspect` beside its config."""
    text = "give every item a semantic ID, or with --append only new items; `tokenize inspect RUN` shows the IDs"
    parser = add_config_command(commands, "tokenize", tokenize, text, EXAMPLES, usage=USAGE)
    parser.add_argument(
        "--append",
        action="store_true",
        help="keep all IDs, and give IDs to the items that have joined the dataset since; the tokenizer stays as fitted",
    )
    inspect_parser = argparse.ArgumentParser(
        prog="onerec tokenize inspect",
        description="Write an HTML page that shows a run's IDs: levels, the tree of prefixes, neighbours and confused items.",
        epilog="examples:\n  onerec tokenize inspect runs/demo\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect_parser.add_argument("run", type=Path, help="folder of a run whose items are tokenized, such as runs/demo")
    inspect_parser.set_defaults(function=inspect)
    parser.inner["inspect"] = inspect_parser


def tokenize(parsed: argparse.Namespace) -> None:
    """`onerec tokenize CONFIG [--append]`."""
    from onerec.run.stages.semantic_ids import SemanticIdsStage, semantic_ids
    from tokenizer.quality.figures import format_quality

    run = open_configured(parsed)
    artefact = run.artefact(SemanticIdsStage.name)
    done = artefact.done
    if parsed.append and not done:
        append(run)
        return
    run.make(SemanticIdsStage.name)
    if done:
        unchanged = "nothing to append, every item has an ID" if parsed.append else "unchanged since the last run"
        run.say(f"{unchanged}: {artefact.folder}\n{format_quality(semantic_ids(run).quality)}")


def append(run: "Run") -> None:
    """Give new items IDs and print a report on them."""
    from onerec.run.stages.append import append_new_items
    from onerec.run.stages.semantic_ids import SemanticIdsStage
    from tokenizer.append import format_report

    with run.state.main_process_first():
        report = append_new_items(run)
    run.say(format_report(report) if report else "no new items; the IDs are kept for the data as they are now")
    folder = run.artefact(SemanticIdsStage.name).folder
    run.say(f"semantic IDs: {folder}\nthe generator was trained on the earlier data; train it again")


def inspect(parsed: argparse.Namespace) -> None:
    """`onerec tokenize inspect RUN`."""
    from onerec.report.inspect.ids import write_page
    from onerec.run.opening import make_run, stored_config

    run = make_run(stored_config(parsed.run), parsed.run)
    run.say(f"page: {write_page(run)}")
