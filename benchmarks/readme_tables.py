"""Write the README's result tables from `benchmarks/results/*.json`, or check that they are up to date.

    python -m benchmarks.readme_tables            # rewrite the tables between their markers
    python -m benchmarks.readme_tables --check    # exit 1 if the README differs

A table stands between `<!-- results: NAME -->` and `<!-- end results -->`; NAME is the results file without its ending.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- results: (?P<name>[\w.-]+) -->\n).*?(<!-- end results -->)", re.DOTALL)
HEADER = ("model", "Recall@10", "NDCG@10", "Recall@50", "Recall@10 by ID", "coverage@10", "parameters", "training")


def main() -> int:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parsed = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = with_tables(before)
    if parsed.check:
        print("README tables are up to date" if before == after else "README tables differ from benchmarks/results")
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


def with_tables(text: str) -> str:
    """The text with every marked table made anew from its results file."""

    def rendered(match: re.Match[str]) -> str:
        results = json.loads((RESULTS / f"{match['name']}.json").read_text(encoding="utf-8"))
        return f"{match[1]}{table(results)}\n{match[3]}"

    return BLOCK.sub(rendered, text)


def table(results: dict[str, Any]) -> str:
    """A Markdown table of test figures with 95 % intervals, the paired differences, and where they come from."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for model in results["models"].values():
        test = model["test"]
        cells = [
            model["label"],
            interval(test["recall@10"]),
            interval(test["ndcg@10"]),
            share(test["recall@50"]["value"]),
            share(test["id_recall@10"]["value"]) if "id_recall@10" in test else "",
            f"{test['coverage@10']:.0%}",
            f"{model['parameters']:,}" if model["parameters"] else "none",
            f"{model['train_seconds'] / 60:.1f} min",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    pairs = [f"{pair} {signed(figures['recall@10'])}" for pair, figures in results["paired"].items()]
    lines.append(f"Paired differences of Recall@10: {'; '.join(pairs)}.")
    run, dataset = results["run"], results["dataset"]
    lines.append(
        f"{dataset['users']:,} users, {dataset['items']:,} items, {dataset['events']:,} events; seed {run['seed']}, "
        f"{run['seconds'] / 60:.0f} min in all on {run['machine']['cores']} cores; commit `{run['commit'][:10]}`"
        f"{' with changes' if run['dirty'] else ''}; `{run['command']}`."
    )
    return "\n".join(lines)


def interval(figure: dict[str, float]) -> str:
    """`.0653 (.0621–.0684)`."""
    return f"{share(figure['value'])} ({share(figure['low'])}–{share(figure['high'])})"


def share(value: float) -> str:
    """`.0653`."""
    return f"{value:.4f}".removeprefix("0")


def signed(figure: dict[str, float]) -> str:
    """`+.0012 (−.0020 to +.0044)`."""
    texts = [f"{figure[key]:+.4f}".replace("0.", ".").replace("-", "−") for key in ("value", "low", "high")]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


if __name__ == "__main__":
    sys.exit(main())
