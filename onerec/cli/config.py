"""`onerec config …`: print a config in full, with where each value comes from, or the JSON Schema of all configs."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onerec.cli.options import CONFIG_HELP, add_overrides, add_parser
from onerec.errors import UserError

EXAMPLES = """examples:
  onerec config own.yaml
  onerec config own.yaml name=mine dataset.folder=data/mine train.epochs=5
  onerec config own.yaml > mine.yaml              # a config of your own, with every key
  onerec config --schema > schema.json            # for editors that check YAML
"""
COLUMN = 44  # where comments begin, beside longer values


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `config`."""
    text = "print a config in full, with where each value comes from, or the JSON Schema of all configs"
    parser = add_parser(commands, "config", text, EXAMPLES)
    parser.add_argument("config", type=Path, nargs="?", help=CONFIG_HELP)
    add_overrides(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema that editors check configs with")
    parser.set_defaults(function=config)


def config(parsed: argparse.Namespace) -> None:
    """`onerec config CONFIG` or `onerec config --schema`."""
    if parsed.schema:
        from onerec.run.schema import schema_text

        print(schema_text(), end="")
    elif parsed.config is None:
        raise UserError("config: name a config, such as own.yaml, or ask for --schema")
    else:
        print(full_config(parsed.config, parsed.overrides), end="")


def full_config(path: Path, overrides: Sequence[str]) -> str:
    """A config as YAML that names every key. A comment behind each value says where it comes from.

    Raises:
        UserError: as `onerec.run.config_files.load_config` does.
    """
    from onerec.run.config_files import find_config, load_config

    values = load_config(path, overrides).model_dump(mode="json")
    path = find_config(path)
    lines = [f"# {' '.join(['onerec config', str(path), *overrides])}", *_lines(values, _origins(path, overrides))]
    return "\n".join(lines) + "\n"


def _lines(values: dict[str, Any], origins: dict[tuple[str, ...], str], section: tuple[str, ...] = ()) -> Iterator[str]:
    from yaml import safe_dump

    for name, value in values.items():
        key = f"{'  ' * len(section)}{name}:"
        if isinstance(value, dict) and value:
            yield key
            yield from _lines(value, origins, (*section, name))
        else:
            text = safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
            entry = f"{key} {text.strip().removesuffix('...').rstrip()}"
            yield f"{entry:<{COLUMN}}  # {origins.get((*section, name), 'default')}"


def _origins(path: Path, overrides: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Where each key that is not a default was set: the file and line, or "override"."""
    from yaml import MappingNode, Node, SafeLoader

    origins: dict[tuple[str, ...], str] = {}

    def note(text: str, section: tuple[str, ...], file: str | None = None) -> None:
        loader = SafeLoader(text)

        def walk(node: Node | None, above: tuple[str, ...]) -> None:
            if isinstance(node, MappingNode):
                loader.flatten_mapping(node)  # resolves YAML's merge key, <<
                for key, value in node.value:
                    origins[(*above, key.value)] = f"{file}:{key.start_mark.line + 1}" if file else "override"
                    walk(value, (*above, key.value))

        walk(loader.get_single_node(), section)

    note(path.read_text(encoding="utf-8"), (), path.name)
    for override in overrides:
        name, _, text = override.partition("=")
        key = tuple(name.split("."))
        for replaced in [known for known in origins if known[: len(key)] == key]:
            del origins[replaced]
        origins[key] = "override"
        note(text, key)
    return origins
