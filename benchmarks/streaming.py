"""A log of ten million events and a catalogue of a million items, from Parquet to lists: events a second and memory, by stage.

    python -m benchmarks.streaming --out benchmarks/results/streaming.json

Log and catalogue are simulated (`benchmarks.speed.simulated_log`): they show what size costs and say nothing about quality. Every
stage is a process of its own with one thread, as a command of `onerec` would be: simulate, read (check and sort), tokenize, train
a few steps with a vector of its own for every item, train without, decode. Each process checks the dataset again, as all commands
do: its peak includes that, and its seconds do not, which are those of `read`. Peak is the largest resident size, mapped files
included, which the system could drop. Private memory is limited to `--limit-gib` by the system (RLIMIT_DATA): a stage that asked
for more would fail. Linux only.

`--quick` is a log of 20,000 events, for tests; its figures are no claim, and the file says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.output.results_file import run_facts, write_results_file
from benchmarks.output.text import markdown_table, origin

FULL = {"events": 10_000_000, "items": 1_000_000, "steps": 200, "own_steps": 20, "users": 2_000}
QUICK = {"events": 20_000, "items": 2_000, "steps": 3, "own_steps": 2, "users": 20}
CONFIG = {
    "name": "simulated",
    "threads": 1,
    "seed": 0,
    "tokenizer.content.text_dimensions": 64,
    "tokenizer.collaborative.dimensions": 32,
    "tokenizer.collaborative.window": 2,
    "tokenizer.quantizer.level_sizes": [256, 256, 256],
    "generator.own_embedding": "false",
    "generator.item_head": "false",
    "train.epochs": 1,
    "recommend.beam_width": 50,
    "recommend.batch_size": 32,
    "evaluate.validation_users": 200,
}
LABELS = {
    "simulate": "write the simulated data",
    "read": "check, sort and split",
    "tokenize": "tokenize",
    "train_own": "train, own vectors",
    "train": "train",
    "decode": "decode, beam 50",
}


def main() -> int:
    """Run the stages, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--events", type=int)
    parser.add_argument("--items", type=int)
    parser.add_argument("--limit-gib", type=float, default=8.0, help="private memory of each stage")
    parser.add_argument("--folder", type=Path, help="where the data go, and stay; a temporary folder by default")
    parsed = parser.parse_args()
    settings = {**(QUICK if parsed.quick else FULL), "config": CONFIG, "limit_gib": parsed.limit_gib}
    settings |= {name: given for name in ("events", "items") if (given := getattr(parsed, name))}
    started = time.time()
    if parsed.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            rows = [measured(stage, Path(folder), settings) for stage in LABELS]
    else:
        rows = [measured(stage, parsed.folder, settings) for stage in LABELS]
    run = run_facts("streaming", quick=parsed.quick, seed=0, config=settings, seconds=time.time() - started)
    results = {"run": run, "figures": figures(rows), "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def measured(stage: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """A stage's figures, from its own process."""
    command = [sys.executable, "-m", "benchmarks.speed.streaming_stages", stage, str(folder), json.dumps(settings)]
    one = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"stage {stage} failed under {settings['limit_gib']:g} GiB of private memory:\n{done.stdout}")
    row = {"stage": stage, **json.loads(done.stdout.splitlines()[-1])}
    row.setdefault("events_per_second", row["events"] / row["seconds"])
    print(f"{stage}: {row['seconds']:.0f} s, peak {row['peak_mib']:.0f} MiB", flush=True)
    return row


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Events a second of each stage, and the largest peak of all."""
    made = {f"events_per_second_{row['stage']}": row["events_per_second"] for row in rows}
    return {**made, "largest_peak_gib": max(row["peak_mib"] for row in rows) / 1024}


def markdown(results: dict[str, Any]) -> str:
    """The table for terminal and docs."""
    settings, lines = results["run"]["config"], []
    for row in results["rows"]:
        what = LABELS[row["stage"]] + (f", {row['steps']} steps" if "steps" in row else "")
        what += f", {row['users']:,} users" if row["stage"] == "decode" else ""
        rate = f"{row['events_per_second']:,.0f}"
        lines.append((what, f"{row['events']:,}", f"{row['seconds']:.0f}", rate, f"{row['peak_mib'] / 1024:.2f} GiB"))
    said = f"Simulated: {settings['events']:,} events, {settings['items']:,} items; private memory of each stage limited to"
    said += f" {settings['limit_gib']:g} GiB; {origin(results['run'])}"
    return f"{markdown_table(('stage', 'events', 'seconds', 'events a second', 'peak'), lines)}\n\n{said}"


if __name__ == "__main__":
    sys.exit(main())
