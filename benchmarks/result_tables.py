"""Write the result tables of README and docs from `benchmarks/results/*.json`, or check that they are up to date.

    python -m benchmarks.result_tables            # rewrite the tables between their markers
    python -m benchmarks.result_tables --check    # exit 1 if a page differs

A table stands between `<!-- results: NAME -->` and `<!-- end results -->`; NAME is the results file without its ending. Of a file
with several tables `NAME/PART` is one of them: its benchmark has a function `parts`. Every benchmark has a function `markdown`.
The README's compact table, `<!-- results: summary -->`, is made of three files.
"""

import argparse
import json
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.output.summary import summary

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(<!-- results: (?P<name>[\w.-]+)(?:/(?P<part>[\w-]+))? -->\n).*?(?P<end><!-- end results -->)", re.DOTALL
)


def main() -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parsed = parser.parse_args()
    differing = []
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = with_tables(before)
        if before != after:
            differing.append(page.name)
            if not parsed.check:
                page.write_text(after, encoding="utf-8")
    if parsed.check:
        print(f"differ from benchmarks/results: {', '.join(differing)}" if differing else "all tables are up to date")
    return int(parsed.check and bool(differing))


def with_tables(text: str) -> str:
    """The text with every marked table made anew from its results file."""

    def rendered(match: re.Match[str]) -> str:
        if match["name"] == "summary":
            return f"{match[1]}{summary(RESULTS)}\n{match['end']}"
        path = RESULTS / f"{match['name']}.json"
        if not path.is_file():
            raise SystemExit(f"{path}: not there, but a page shows it; run its benchmark, or take the marker out")
        shown = shown_of(json.loads(path.read_text(encoding="utf-8")), match["part"])
        return f"{match[1]}{shown}\n{match['end']}"

    return BLOCK.sub(rendered, text)


def shown_of(results: dict[str, Any], part: str | None = None) -> str:
    """A results file as Markdown, or one of its tables."""
    benchmark = benchmark_of(results)
    if part is None:
        return str(benchmark.markdown(results))
    made: dict[str, str] = benchmark.parts(results) if hasattr(benchmark, "parts") else {}
    if part not in made:
        tables = f"has {', '.join(made)}" if made else "has one table, which needs no name"
        raise SystemExit(f"a page shows the table {part}; {benchmark.__name__} {tables}")
    return made[part]


def benchmark_of(results: dict[str, Any]) -> Any:
    """The module of the benchmark that wrote a results file. A complete run's file has the name of its config instead."""
    name = "benchmarks.recall" if "protocol" in results else f"benchmarks.{results['run']['name']}"
    spec = find_spec(name)
    is_folder = spec is not None and spec.submodule_search_locations is not None
    return import_module(f"{name}.__main__" if is_folder else name)


if __name__ == "__main__":
    sys.exit(main())
