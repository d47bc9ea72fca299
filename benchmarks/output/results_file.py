"""Results files: the facts of a run, and the one place that writes them, so that they stay small and a change is one line."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from onerec.files import write_text

SHORT = 100  # characters of a value that stays on the line of its key


def run_facts(name: str, **facts: Any) -> dict[str, Any]:
    """What the figures of this process come from: benchmark, command line, code, versions, machine, and `facts`."""
    from onerec.run.provenance import code_version, machine, versions

    commit, dirty = code_version()
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]])
    origin = {"name": name, "command": command, "commit": commit, "dirty": dirty}
    return {**origin, "versions": versions(), "machine": machine(), **facts}


def write_results_file(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (with the keys `run`, `figures` and `rows`) to `path` as `compact` JSON.

    Raises:
        ValueError: one of these keys is missing.
    """
    missing = {"run", "figures", "rows"} - content.keys()
    if missing:
        raise ValueError(f"a results file needs {', '.join(sorted(missing))}")
    write_text(path, compact(content))
    print(f"wrote {path}")


def compact(content: dict[str, Any]) -> str:
    """JSON in which every row, figure and fact of the run stands on one line, with all digits of its floats."""
    parts = [f"{_text(key)}: {_spread(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _spread(value: Any) -> str:
    text = _text(value)
    if len(text) <= SHORT or not isinstance(value, dict | list):
        return text
    if isinstance(value, dict):
        entries = [f"{_text(key)}: {_text(entry)}" for key, entry in value.items()]
    else:
        entries = [_text(entry) for entry in value]
    return f"{text[0]}\n " + ",\n ".join(entries) + f"\n{text[-1]}"


def _text(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
