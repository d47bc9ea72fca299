"""Config files: finding them, and reading one as a run config."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import onerec
from onerec.data.contract import parse_section
from onerec.errors import UserError
from onerec.run.config import RunConfig
from onerec.run.plugins import config_class
from tokenizer.common.integrity import SEAL, unsealed


def shipped_config(name: str) -> Path:
    """A config that comes with the project, by its file's name: inside an installed package, or beside it in a checkout."""
    package = Path(onerec.__file__).resolve().parent
    folder = package / "configs"
    return (folder if folder.is_dir() else package.parent / "configs") / name


def find_config(path: Path) -> Path:
    """The config at a path. A path that does not exist may name a shipped config: `own`, `own.yaml` or `configs/own.yaml`.

    Raises:
        UserError: there is no file, and no shipped config of that name.
    """
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(shipped_config("").glob("*.yaml"))}
    if str(path.parent) in (".", "configs") and path.suffix in ("", ".yaml") and path.stem in shipped:
        return shipped[path.stem]
    names = ", ".join(file.name for file in shipped.values())
    raise UserError(f"{path}: no such config; give the path of a file, or the name of a shipped config: {names}")


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config (see `find_config`) and apply overrides such as `train.epochs=10`.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown (the nearest right name is given) or a value is wrong.
    """
    path = find_config(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a run config is a mapping of keys; see configs/demo.yaml for an example")
    if path.suffix == ".json" and SEAL in content and (content := unsealed(content)) is None:
        raise UserError(
            f'{path}: changed since it was written; to use it as a config of your own, remove its key "{SEAL}"'
        )
    return config_from(content, overrides, str(path))


def config_from(content: dict[str, Any], overrides: Sequence[str], where: str) -> RunConfig:
    """A run config from plain values and overrides. `where` begins messages. Raises UserError as `load_config` does."""
    for override in overrides:
        _apply(content, override)
    return parse_section(config_class(), content, where)


def _apply(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f'override "{override}": write it as key.subkey=value, for example train.epochs=10')
    *sections, key = path.split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}  # a section that the file leaves out or sets to null starts from its defaults
        inner = content[section]
        if not isinstance(inner, dict):
            raise UserError(f'override "{override}": "{section}" is a value, it has no keys of its own')
        content = inner
    try:
        content[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f'override "{override}": the value is not YAML ({" ".join(str(error).split())})') from error
