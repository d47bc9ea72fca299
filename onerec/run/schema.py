"""The JSON Schema of run configs, for editors. Its descriptions are the comments of demo.yaml."""

import json
import re
from typing import Any, get_args

from pydantic import BaseModel

from onerec.run.config_files import shipped_config
from onerec.run.plugins import config_class

Path = tuple[str, ...]  # of a key, from the top of the config
EXAMPLE = re.compile(r"^( {0,8})# (?= *[a-z_0-9]+:)", re.MULTILINE)


def with_examples(text: str) -> str:
    """The text of a config with its commented examples switched on."""
    return EXAMPLE.sub(r"\1", text)


def explanations(text: str) -> dict[Path, str]:
    """The comment behind each key of a config, including keys of commented examples.

    A comment can continue in the same column of the next lines.
    """
    found: dict[Path, str] = {}
    sections: list[tuple[int, str]] = []  # indentation and name of the key and of the sections around it
    column = -1
    for line in with_examples(text).splitlines():
        before, _, comment = line.partition("# ")
        if key := re.match(r"( *)([a-z_0-9]+):", before):
            sections = [section for section in sections if section[0] < len(key[1])] + [(len(key[1]), key[2])]
            column = len(before)
        if comment and len(before) == column and (key or not before.strip()):
            path = tuple(name for _, name in sections)
            found[path] = f"{found.get(path, '')} {comment}".strip()
    return found


def config_schema() -> dict[str, Any]:
    """The JSON Schema of run configs, with the sections of all plugins."""
    comments = explanations(shipped_config("demo.yaml").read_text(encoding="utf-8"))
    described: dict[type, dict[str, str]] = {}
    root = config_class()
    _describe(root, (), comments, described)
    schema = root.model_json_schema()
    for model in described:
        node = schema if model is root else schema["$defs"][model.__name__]
        for unwanted in ("title", "description"):  # the class's name and docstring, which are for programmers
            node.pop(unwanted, None)
        for name, entry in node["properties"].items():
            entry.pop("title", None)
            if isinstance(entry.get("default"), dict):
                del entry["default"]  # a section: its keys have defaults of their own
            # A key that a class inherits, such as the epochs of another training, also inherits its description.
            known = [described[base][name] for base in model.__mro__ if name in described.get(base, {})]
            entry.update({"description": known[0]} if known else {})
    return {"title": "Run config of OneRec in the open", **schema}


def _describe(
    model: type[BaseModel], section: Path, comments: dict[Path, str], described: dict[type, dict[str, str]]
) -> None:
    texts = described.setdefault(model, {})
    for name, field in model.model_fields.items():
        if comment := comments.get((*section, name)):
            texts.setdefault(name, comment)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                _describe(kind, (*section, name), comments, described)


def schema_text() -> str:
    """The schema as JSON, with a line for each key of a config."""
    return _json(config_schema()) + "\n"


def _json(value: Any, indent: str = "") -> str:
    if isinstance(value, dict) and ("properties" in value or all(isinstance(entry, dict) for entry in value.values())):
        entries = [f"{indent} {json.dumps(key)}: {_json(entry, indent + ' ')}" for key, entry in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}" if entries else "{}"
    return json.dumps(value, ensure_ascii=False)
