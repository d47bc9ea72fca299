"""What commands share: examples below the help, a config with its overrides, the folder of runs, and inner commands."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onerec.run.run import Run

CONFIG_HELP = "a run config: a file, or the name of a shipped one, such as own.yaml"


class CommandParser(argparse.ArgumentParser):
    """The parser of a command. `inner` holds the parsers of words that can take the place of its first argument."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.inner: dict[str, argparse.ArgumentParser] = {}

    def parse_known_args(  # type: ignore[override]  # argparse's overloads differ in the namespace's type alone
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse does, but an inner command parses the rest where the first word names one."""
        if args and args[0] in self.inner:
            return self.inner[args[0]].parse_known_args(args[1:], namespace)
        return super().parse_known_args(args, namespace)


def add_parser(
    commands: "argparse._SubParsersAction[Any]",
    name: str,
    text: str,
    examples: str,
    *,
    description: str | None = None,
    usage: str | None = None,
) -> Any:
    """Add a command and return its parser. `text` stands in the list of commands, `examples` below the command's help."""
    return commands.add_parser(
        name,
        usage=usage,
        help=text,
        description=description or f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_command(
    commands: "argparse._SubParsersAction[Any]",
    name: str,
    function: object,
    text: str,
    examples: str,
    *,
    tracked: bool = False,
    usage: str | None = None,
) -> Any:
    """Add a command that takes a run config and overrides of its keys, and return its parser."""
    parser = add_parser(commands, name, text, examples, usage=usage)
    parser.add_argument("config", type=Path, help=CONFIG_HELP)
    add_run_options(parser, tracked)
    parser.set_defaults(function=function)
    return parser


def add_run_options(parser: argparse.ArgumentParser, tracked: bool) -> None:
    """Add overrides, the folder of runs and, for commands that train, the tracker."""
    add_overrides(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder that holds run folders (default: runs)")
    text = "make stages anew without a question if settings or data have changed, however long they took"
    parser.add_argument("--redo", action="store_true", help=text)
    parser.set_defaults(track=None)
    if tracked:
        parser.add_argument("--track", choices=["wandb"], help="mirror training metrics to this tracker")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add overrides of a config's keys."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the config, such as train.epochs=3"
    )


def open_configured(parsed: argparse.Namespace) -> "Run":
    """Open the run that a config and its overrides describe."""
    from onerec.run.config_files import load_config
    from onerec.run.opening import open_run

    config = load_config(parsed.config, parsed.overrides)
    wandb_project = "onerec" if parsed.track == "wandb" else None
    return open_run(config, parsed.runs / config.name, wandb_project, redo=parsed.redo)
