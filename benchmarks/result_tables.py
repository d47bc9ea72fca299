"""Write the result tables of README and docs from `benchmarks/results/*.json`, or check that they are up to date.

    python -m benchmarks.result_tables            # rewrite the tables between their markers
    python -m benchmarks.result_tables --check    # exit 1 if a page differs

A table stands between `<!-- results: NAME -->` and `<!-- end results -->`; NAME is the results file without its ending. Of a file
with several tables `NAME/PART` is one of them (`benchmarks.alignment_markdown.parts`).
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(<!-- results: (?P<name>[\w.-]+)(?:/(?P<part>[\w-]+))? -->\n).*?(?P<end><!-- end results -->)", re.DOTALL
)
HEADER = ("model", "Recall@10", "NDCG@10", "Recall@50", "Recall@10 by ID", "coverage@10", "parameters", "training")
JUDGED_HEADER = "P-Score@10"


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
        path = RESULTS / f"{match['name']}.json"
        if not path.is_file():
            raise SystemExit(f"{path}: not there, but a page shows it; run its benchmark, or take the marker out")
        results = json.loads(path.read_text(encoding="utf-8"))
        shown = rendering(results)(results) if match["part"] is None else part_of(results, match["part"])
        return f"{match[1]}{shown}\n{match['end']}"

    return BLOCK.sub(rendered, text)


def part_of(results: dict[str, Any], part: str) -> str:
    """One table of a file with several."""
    from benchmarks.alignment_markdown import parts

    name = results["run"].get("name")
    if name != "alignment":
        raise SystemExit(
            f"a page shows the table {part} of {name or 'complete runs'}, which has one table without a name"
        )
    made = parts(results)
    if part not in made:
        raise SystemExit(f"a page shows the table {part}; {name} has {', '.join(made)}")
    return made[part]


def rendering(results: dict[str, Any]) -> Callable[[dict[str, Any]], str]:
    """What turns a results file into Markdown: its benchmark's own function, or `table` for complete runs."""
    if "protocol" in results:
        return seeds_markdown if "runs" in results["run"] else table
    from benchmarks import (
        ablation_table,
        alignment_markdown,
        append_items,
        decoders,
        decoding,
        downstream_table,
        lifelong,
        reward_model,
        scaling,
        selection,
        streaming,
        tokenizer,
        tokenizer_quality,
        training,
    )

    made = {
        "generator_ablations": ablation_table.markdown,
        "alignment": alignment_markdown.markdown,
        "append_items": append_items.markdown,
        "decoders": decoders.markdown,
        "decoding": decoding.markdown,
        "scaling": scaling.markdown,
        "lifelong": lifelong.markdown,
        "reward_model": reward_model.markdown,
        "selection": selection.markdown,
        "streaming": streaming.markdown,
        "tokenizer": tokenizer.markdown,
        "tokenizer_quality": tokenizer_quality.markdown,
        "tokenizers_downstream": downstream_table.markdown,
        "training": training.markdown,
    }
    return made[results["run"]["name"]]


def seeds_markdown(results: dict[str, Any]) -> str:
    """Of a file that holds several seeds."""
    from benchmarks.seeds import markdown

    return markdown(results)


def origin(run: dict[str, Any]) -> str:
    """Seed, minutes, cores, commit and command of a results file, in one line."""
    seeds = run.get("seed")
    parts = [] if seeds is None else [f"seed{'s' if isinstance(seeds, list) else ''} {str(seeds).strip('[]')}"]
    parts.append(f"{run['seconds'] / 60:.0f} min on {run['machine']['cores']} cores")
    parts.append(f"commit `{run['commit'][:10]}`{' with changes' if run['dirty'] else ''}")
    return "; ".join([*parts, f"`{run['command']}`."])


def table(results: dict[str, Any]) -> str:
    """A Markdown table of test figures with 95 % intervals, the paired differences, and where they come from.

    Where a judge looked at the lists, its mean P-Score is a column.
    """
    from benchmarks.recall import differences_of

    judged = results.get("judge") is not None
    header = [*HEADER[:5], JUDGED_HEADER, *HEADER[5:]] if judged else HEADER
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for model in results["rows"]:
        test = model["test"]
        cells = [
            model["label"],
            interval(test["recall@10"]),
            interval(test["ndcg@10"]),
            share(test["recall@50"]["value"]),
            share(test["id_recall@10"]["value"]) if "id_recall@10" in test else "",
            *([share(test["p_score@10"]["value"])] if judged else []),
            f"{test['coverage@10']:.0%}",
            f"{model['parameters']:,}" if model["parameters"] else "none",
            f"{model['train_seconds'] / 60:.1f} min",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    labels = {model["model"]: model["label"] for model in results["rows"]}
    pairs = []
    for (first, second), difference in differences_of(results, "recall@10").items():
        if first not in ("onerec", "onerec_selection") and second != "onerec":
            continue  # what comes after training is told against what it starts from; the file has all pairs
        pairs.append(f"{labels[first]} − {labels[second]} {signed(difference)}")
    lines.append(f"Paired differences of Recall@10: {'; '.join(pairs)}.")
    dataset = results["dataset"]
    lines.append(
        f"{dataset['users']:,} users, {dataset['items']:,} items, {dataset['events']:,} events; {origin(results['run'])}"
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
