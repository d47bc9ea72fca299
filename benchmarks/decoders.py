"""The lazy decoder against the encoder-decoder at equal parameters: held-out loss, counted operations, measured time.

    python -m benchmarks.decoders --out benchmarks/results/decoders.json
    python -m benchmarks.decoders --dataset kuairand-pure --modes one --sizes small --out runs/again.json --cells runs/again

Three sizes, n encoder and n decoder layers against 2 n lazy layers of the same width: a lazy layer has 18 width^2 parameters, an
encoder and a decoder layer together 36. Two ways to train: `one` target per window behind a bidirectional encoder, as both
reports do, and `all` positions of a window as targets behind a causal one. Both decoders of a pair see the same IDs, windows and
targets in the same order, at the rate of V2's rule. Losses are nats per item on validation targets, seconds those of the
processor. `contexts` counts and times one training step, one target per window, at several lengths of the history; nothing is
learnt there.

A cell takes minutes on one core and is kept in `--cells`; the same command goes on where it stopped, and several processes
started with it share the cells that are left. Datasets are folders below $ONEREC_DATA; MovieLens-100K is fetched if it is not
there. `--quick` trains on a few hundred targets with random IDs, and the file says so.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import claim, data_folder
from benchmarks.generator_cells import Cell, read_cell, run_facts, run_missing
from benchmarks.results_file import write_results_file
from benchmarks.timing import in_turns, ratios, spread
from onerec.files import write_json

DECODERS = ("encoder_decoder", "lazy")
MODES = {"one": "bidirectional", "all": "causal"}
CONTEXTS = "contexts"
LENGTHS = (20, 50, 200, 512)
SEEDS = (17,)
SAMPLES, BOOTSTRAP_SEED = 1000, 17


@dataclass(frozen=True)
class Size:
    """A pair of generators: width, heads, and n layers of encoder and decoder each against 2 n lazy ones."""

    width: int
    heads: int
    layers: int

    def settings(self, decoder: str) -> dict[str, Any]:
        """Keys of `generator`."""
        lazy = decoder == "lazy"
        return {
            "width": self.width,
            "heads": self.heads,
            "hidden_width": 4 * self.width,
            "decoder": decoder,
            "encoder_layers": 0 if lazy else self.layers,
            "decoder_layers": 2 * self.layers if lazy else self.layers,
        }


SIZES = {"small": Size(32, 1, 6), "medium": Size(64, 2, 6), "large": Size(96, 3, 6)}
QUICK_SIZES = {"small": Size(16, 2, 1), "medium": Size(16, 2, 2), "large": Size(32, 2, 2)}
# Targets of an epoch, epochs, windows per step.
BUDGETS = {
    ("kuairand-pure", "one"): (100_000, 1, 128),
    ("kuairand-pure", "all"): (150_000, 1, 16),
    ("movielens-100k", "one"): (15_000, 1, 32),
}
QUICK_BUDGET = (300, 1, 64)


def cell_of(dataset: str, mode: str, size: str, decoder: str, seed: int, quick: bool) -> Cell:
    """The cell of one generator."""
    targets, epochs, batch_size = QUICK_BUDGET if quick else BUDGETS[dataset, mode]
    chosen = (QUICK_SIZES if quick else SIZES)[size].settings(decoder) | {"context": MODES[mode]}
    settings = [f"generator.{key}={value}" for key, value in chosen.items()]
    settings += [f"train.epochs={epochs}", f"train.batch_size={batch_size}"]
    return Cell(dataset, f"{mode}-{size}-{decoder}-{seed}", tuple(settings), targets, seed, quick)


def main() -> int:
    """Run the cells that are missing, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=Path, default=Path("runs/decoders"), help="folder of finished cells")
    parser.add_argument("--dataset", choices=sorted({dataset for dataset, _ in BUDGETS}), help="only this dataset")
    parser.add_argument("--modes", nargs="+", choices=[*MODES, CONTEXTS], default=[*MODES, CONTEXTS])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--finished", action="store_true", help="run no cell, make the table of those that are there")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    cells = parsed.cells / ("quick" if parsed.quick else "full")
    pairs = [
        (dataset, mode, size)
        for dataset, mode in BUDGETS
        if parsed.dataset in (None, dataset) and mode in parsed.modes
        for size in parsed.sizes
    ]
    lengths = [size for size in parsed.sizes if CONTEXTS in parsed.modes]
    if not parsed.finished:
        run_cells(pairs, lengths, parsed.seeds, data, cells, parsed.quick)
    rows = [*rows_of(pairs, parsed.seeds, cells, parsed.quick), *context_rows(lengths, cells)]
    if not rows:
        print("no pair of cells is finished yet")
        return 1
    measured = [result for row in rows for result in row.pop("results", [])]
    run = run_facts("decoders", measured, parsed.seeds, parsed.quick)
    results = {"run": run, "figures": figures_of(rows), "rows": rows}
    print(markdown(results))
    write_results_file(parsed.out, results)
    return 0


def run_cells(
    pairs: list[tuple[str, str, str]], lengths: list[str], seeds: list[int], data: Path, cells: Path, quick: bool
) -> None:
    """Run every cell that neither is finished nor belongs to another process."""
    for size in lengths:
        if claim(cells / CONTEXTS / size):
            write_json(cells / CONTEXTS / size / "cell.json", measure_contexts(size, quick))
    wanted = [
        cell_of(dataset, mode, size, decoder, seed, quick)
        for seed in seeds
        for dataset, mode, size in pairs
        for decoder in DECODERS
    ]
    run_missing(wanted, data, cells)


def rows_of(pairs: list[tuple[str, str, str]], seeds: list[int], cells: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """A row per pair of which both decoders are finished for a seed at least; `results` holds the cells themselves."""
    from onerec.evaluate.bootstrap import interval_over_seeds

    for dataset, mode, size in pairs:
        found: dict[str, dict[int, Any]] = {decoder: {} for decoder in DECODERS}
        for decoder in DECODERS:
            for seed in seeds:
                cell = read_cell(cells / dataset / cell_of(dataset, mode, size, decoder, seed, quick).name)
                if cell is not None:
                    found[decoder][seed] = cell
        both = [seed for seed in seeds if all(seed in found[decoder] for decoder in DECODERS)]
        if not both:
            continue
        losses = {name: np.stack([found[name][seed][1] for seed in both]) for name in DECODERS}
        users_C = losses["lazy"][0, 0].astype(np.int64)
        difference_SC = losses["lazy"][:, 1] - losses["encoder_decoder"][:, 1]
        results = {name: [found[name][seed][0] for seed in both] for name in DECODERS}
        shown = {name: decoder_facts(results[name]) for name in DECODERS}
        first = results["lazy"][0]
        yield {
            "dataset": dataset,
            "mode": mode,
            "size": size,
            "seeds": both,
            **{key: first[key] for key in ("targets_seen", "steps", "mean_history", "cases")},
            **shown,
            "loss_difference": interval_over_seeds(difference_SC, users_C, SAMPLES, BOOTSTRAP_SEED),
            "flops_ratio": shown["encoder_decoder"]["flops_per_target"] / shown["lazy"]["flops_per_target"],
            "time_ratio": shown["encoder_decoder"]["seconds"] / shown["lazy"]["seconds"],
            "results": [result for name in DECODERS for result in results[name]],
        }


def decoder_facts(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What a row says of one decoder: means over seeds, and counts by part."""
    first = results[0]
    seen = first["targets_seen"]
    return {
        "learning_rate": first["learning_rate"],
        "parameters": first["parameters"],
        "flops_per_target": float(np.mean([one["training_flops_total"] / one["targets_seen"] for one in results])),
        "flops_per_target_by_part": {part: flops / seen for part, flops in first["training_flops"].items()},
        "flops_per_epoch": float(np.mean([one["training_flops_total"] / one["train"]["epochs"] for one in results])),
        "seconds": float(np.mean([one["seconds"]["training_processor"] for one in results])),
        "losses": [one["loss"] for one in results],
        "loss": float(np.mean([one["loss"] for one in results])),
    }


def measure_contexts(size: str, quick: bool) -> dict[str, Any]:
    """Counted operations and seconds of a training step at several lengths of the history, both decoders in turns."""
    import torch

    from benchmarks.random_models import random_batch, random_generator
    from onerec.data.windows import Batch
    from onerec.model.counting import batch_flops, size_without_tables

    torch.set_num_threads(1)
    shape = (QUICK_SIZES if quick else SIZES)[size]
    rows, repeats, lengths = (2, 1, LENGTHS[:2]) if quick else (8, 5, LENGTHS)
    models = {
        name: random_generator(
            7_583, (128,) * 3, item_head=False, own_embedding=True, context="bidirectional", **shape.settings(name)
        ).train()
        for name in DECODERS
    }
    measured = []
    for length in lengths:
        histories = random_batch(7_583, rows, length)
        newest_BT = torch.arange(length).expand(rows, -1) == length - 1
        batch = Batch(histories.items_BT, histories.targets_BT, newest_BT, histories.lengths_B)
        flops = {name: 3 * sum(batch_flops(model, batch).values()) / rows for name, model in models.items()}
        work: dict[str, Callable[[], object]] = {name: step_of(model, batch) for name, model in models.items()}
        taken = in_turns(work, repeats)
        measured.append(
            {
                "length": length,
                "flops_per_target": flops,
                "flops_ratio": flops["encoder_decoder"] / flops["lazy"],
                "seconds_per_target": {name: spread([one / rows for one in found]) for name, found in taken.items()},
                "time_ratio": ratios(taken["encoder_decoder"], taken["lazy"]),
            }
        )
    return {"parameters": {name: size_without_tables(model) for name, model in models.items()}, "lengths": measured}


def step_of(model: Any, batch: Any) -> Callable[[], None]:
    """Forward and backward pass over a batch."""

    def step() -> None:
        model(batch).sum().backward()
        model.zero_grad()

    return step


def context_rows(sizes: list[str], cells: Path) -> Iterator[dict[str, Any]]:
    """What `measure_contexts` found, a row per size and length."""
    for size in sizes:
        path = cells / CONTEXTS / size / "cell.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            for one in found["lengths"]:
                yield {"mode": CONTEXTS, "size": size, "parameters": found["parameters"], **one}


def figures_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures by name."""
    figures: dict[str, Any] = {}
    for row in rows:
        if row["mode"] == CONTEXTS:
            figures[f"flops_ratio_{row['length']}_{row['size']}"] = row["flops_ratio"]
            figures[f"time_ratio_{row['length']}_{row['size']}"] = row["time_ratio"]
            continue
        name = f"{row['dataset']}_{row['mode']}_{row['size']}"
        figures[f"loss_difference_{name}"] = row["loss_difference"]
        figures[f"flops_ratio_{name}"], figures[f"time_ratio_{name}"] = row["flops_ratio"], row["time_ratio"]
    return figures


def markdown(results: dict[str, Any]) -> str:
    """The tables for terminal and docs."""
    from benchmarks.result_tables import origin, signed

    trained = [row for row in results["rows"] if row["mode"] != CONTEXTS]
    counted = [row for row in results["rows"] if row["mode"] == CONTEXTS]
    lines: list[str] = []
    if trained:
        lines += [
            "| data | targets per window | size | parameters (with tables) | loss | lazy − encoder-decoder"
            " | MFLOP per target | ratio | seconds | ratio |",
            "|" + "---|" * 10,
        ]
        for row in trained:
            both = [row[name] for name in DECODERS]
            counts = [f"{one['parameters']['without_tables']:,} ({one['parameters']['total']:,})" for one in both]
            cells = [
                f"{row['dataset']}, {row['targets_seen']:,} targets after {row['mean_history']:.0f} items on average",
                row["mode"],
                row["size"],
                " / ".join(counts),
                " / ".join(f"{one['loss']:.4f}" for one in both),
                signed(row["loss_difference"]),
                " / ".join(f"{one['flops_per_target'] / 1e6:,.1f}" for one in both),
                f"{row['flops_ratio']:.2f}",
                " / ".join(f"{one['seconds']:,.0f}" for one in both),
                f"{row['time_ratio']:.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if counted:
        lines += ["| size | items before the target | MFLOP per target | ratio | measured ratio |", "|" + "---|" * 5]
        for row in counted:
            flops, time = row["flops_per_target"], row["time_ratio"]
            cells = [
                row["size"],
                str(row["length"]),
                " / ".join(f"{flops[name] / 1e6:,.1f}" for name in DECODERS),
                f"{row['flops_ratio']:.2f}",
                f"{time['value']:.2f} ({time['min']:.2f}–{time['max']:.2f})",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(f"Pairs are encoder-decoder / lazy. {origin(results['run'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
