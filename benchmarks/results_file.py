"""One place that writes results files, atomically."""

from pathlib import Path
from typing import Any

from onerec.files import write_json


def write_results_file(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (with the keys `run`, `figures` and `rows`) as JSON to `path` through a temporary file."""
    missing = {"run", "figures", "rows"} - content.keys()
    if missing:
        raise ValueError(f"a results file needs {', '.join(sorted(missing))}")
    write_json(path, content)
    print(f"wrote {path}")
