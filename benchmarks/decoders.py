"""The lazy decoder against the encoder-decoder at equal parameters: held-out loss, counted operations, measured time.

    python -m benchmarks.decoders --out benchmarks/results/decoders.json
    python -m benchmarks.decoders --dataset kuairand-pure --modes one --sizes small --out runs/again.json --cells runs/again

Three sizes, n encoder and n decoder layers against 2 n lazy layers of the same width: a lazy layer has 18 width^2 parameters, an
encoder and a decoder layer together 36. Two ways to train: `one` target per window behind a bidirectional encoder, as both
reports do, and `all` positions of a window as targets behind a causal one. Both decoders of a pair see the same IDs, windows and
targets in the same order, at the rate of V2's rule. Losses are nats per item on validation targets, seconds those of the
processor. `contexts` counts and times one training step, one target per window, at several lengths of the history; no model is
trained there.

A cell takes minutes on one core and is kept in `--cells`; the same command goes on where it stopped, and several processes
started with it share the cells that are left. Datasets are folders below $ONEREC_DATA; MovieLens-100K is fetched if it is not
there. `--quick` trains on a few hundred targets with random IDs, and the file says so.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.generators.counted_cell import GeneratorRow, measure
from benchmarks.output.text import markdown_table, origin, repeats, signed_interval
from benchmarks.speed.random_models import random_batch, random_generator
from benchmarks.speed.timing import in_turns, ratios, spread
from benchmarks.study.cells import Arrays, Cell, Row
from benchmarks.study.runs import data_folder
from benchmarks.study.samples import Cells, entry_of, sample_of
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser

NAME = "decoders"
DECODERS = ("encoder_decoder", "lazy")
MODES = {"one": "bidirectional", "all": "causal"}
CONTEXTS = "contexts"
LENGTHS = (20, 50, 200, 512)
SEEDS = (17,)


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


def row_of(dataset: str, mode: str, size: str, decoder: str, quick: bool) -> GeneratorRow:
    """The row of one generator."""
    targets, epochs, batch_size = QUICK_BUDGET if quick else BUDGETS[dataset, mode]
    chosen = (QUICK_SIZES if quick else SIZES)[size].settings(decoder) | {"context": MODES[mode]}
    settings = [f"generator.{key}={value}" for key, value in chosen.items()]
    settings += [f"train.epochs={epochs}", f"train.batch_size={batch_size}"]
    return GeneratorRow(dataset, f"{mode}-{size}-{decoder}", mode, size, tuple(settings), targets=targets)


def main() -> int:
    """Run the cells that are missing, print the tables, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("--dataset", choices=sorted({dataset for dataset, _ in BUDGETS}), help="only this dataset")
    parser.add_argument("--modes", nargs="+", choices=[*MODES, CONTEXTS], default=[*MODES, CONTEXTS])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parsed = parser.parse_args()
    data = data_folder(parser)
    pairs = [
        (dataset, mode, size)
        for dataset, mode in BUDGETS
        if parsed.dataset in (None, dataset) and mode in parsed.modes
        for size in parsed.sizes
    ]
    generators = [row_of(*pair, decoder, parsed.quick) for pair in pairs for decoder in DECODERS]
    trained = Study.of(NAME, generators, measure, data, parsed)
    sizes = [Row(CONTEXTS, size) for size in parsed.sizes if CONTEXTS in parsed.modes]
    # Nothing random is measured there, so one seed is enough.
    counted = replace(trained, rows=sizes, measure=measure_contexts, seeds=(0,))
    wanted = chosen_rows(parser, [*generators, *sizes], parsed.only)
    if not parsed.finished:
        for study in (counted, trained):
            study.run_missing([row for row in wanted if row in study.rows])
    finished = {(row.dataset, row.name): trained.finished(row) for row in generators}
    entries = [*pair_entries(pairs, finished), *context_entries(counted)]
    return show_and_write(trained.results(entries, figures_of(entries)), markdown, parsed.out)


def pair_entries(pairs: list[tuple[str, str, str]], finished: dict[tuple[str, str], Cells]) -> Iterator[dict[str, Any]]:
    """An entry for each pair of which both decoders are finished with one seed at least."""
    for dataset, mode, size in pairs:
        cells = {name: finished[dataset, f"{mode}-{size}-{name}"] for name in DECODERS}
        both = [seed for seed in cells["lazy"] if seed in cells["encoder_decoder"]]
        if not both:
            continue
        cells = {name: {seed: found[seed] for seed in both} for name, found in cells.items()}
        shown = {name: decoder_facts(found) for name, found in cells.items()}
        losses = {name: sample_of(found, "valid") for name, found in cells.items()}
        first = cells["lazy"][both[0]].facts
        entry = {
            "dataset": dataset,
            "mode": mode,
            "size": size,
            **entry_of(cells["lazy"]),
            **{key: first[key] for key in ("targets_seen", "steps", "mean_history", "cases")},
            **shown,
            "loss_difference": losses["lazy"].minus(losses["encoder_decoder"]).intervals()["loss"],
            "flops_ratio": shown["encoder_decoder"]["flops_per_target"] / shown["lazy"]["flops_per_target"],
            "time_ratio": shown["encoder_decoder"]["seconds"] / shown["lazy"]["seconds"],
        }
        other = entry_of(cells["encoder_decoder"])
        entry["commits"] = sorted({*entry["commits"], *other["commits"]})
        entry["seconds"] = {kind: seconds + other["seconds"][kind] for kind, seconds in entry["seconds"].items()}
        yield entry


def decoder_facts(cells: Cells) -> dict[str, Any]:
    """What an entry says of one decoder: means over seeds, and counts by part."""
    results = [cell.facts for cell in cells.values()]
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


def measure_contexts(study: Study, cell: Cell) -> tuple[dict[str, Any], Mapping[str, Arrays]]:
    """Counted operations and seconds of a training step at several lengths of the history, both decoders in turns."""
    import torch

    from onerec.data.windows import Batch
    from onerec.model.counting import batch_flops, size_without_tables

    torch.set_num_threads(1)
    shape = (QUICK_SIZES if study.quick else SIZES)[cell.row.name]
    rows, repeated, lengths = (2, 1, LENGTHS[:2]) if study.quick else (8, 5, LENGTHS)
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
        taken = in_turns(work, repeated)
        measured.append(
            {
                "length": length,
                "flops_per_target": flops,
                "flops_ratio": flops["encoder_decoder"] / flops["lazy"],
                "seconds_per_target": {name: spread([one / rows for one in found]) for name, found in taken.items()},
                "time_ratio": ratios(taken["encoder_decoder"], taken["lazy"]),
            }
        )
    sizes = {name: size_without_tables(model) for name, model in models.items()}
    return {"parameters": sizes, "lengths": measured, "seconds": {}}, {}


def step_of(model: Any, batch: Any) -> Callable[[], None]:
    """Forward and backward pass over a batch."""

    def step() -> None:
        model(batch).sum().backward()
        model.zero_grad()

    return step


def context_entries(study: Study) -> Iterator[dict[str, Any]]:
    """What `measure_contexts` found, an entry per size and length."""
    for row in study.rows:
        for cell in study.finished(row).values():
            for one in cell.facts["lengths"]:
                yield {"mode": CONTEXTS, "size": row.name, "parameters": cell.facts["parameters"], **one}


def figures_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures by name."""
    figures: dict[str, Any] = {}
    for row in entries:
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
    trained = [row for row in results["rows"] if row["mode"] != CONTEXTS]
    counted = [row for row in results["rows"] if row["mode"] == CONTEXTS]
    parts = [trained_table(trained)] if trained else []
    parts += [context_table(counted)] if counted else []
    return "\n\n".join([*parts, f"Pairs are encoder-decoder / lazy. {origin(results['run'])}"])


def trained_table(rows: list[dict[str, Any]]) -> str:
    """Losses, operations and seconds of both decoders."""
    header = ("data", "targets per window", "size", "parameters (with tables)", "loss", "lazy − encoder-decoder")
    lines = []
    for row in rows:
        both = [row[name] for name in DECODERS]
        lines.append(
            (
                f"{row['dataset']}, {row['targets_seen']:,} targets after {row['mean_history']:.0f} items on average",
                row["mode"],
                row["size"],
                " / ".join(f"{one['parameters']['without_tables']:,} ({one['parameters']['total']:,})" for one in both),
                " / ".join(f"{one['loss']:.4f}" for one in both),
                signed_interval(row["loss_difference"]),
                " / ".join(f"{one['flops_per_target'] / 1e6:,.1f}" for one in both),
                f"{row['flops_ratio']:.2f}",
                " / ".join(f"{one['seconds']:,.0f}" for one in both),
                f"{row['time_ratio']:.2f}",
            )
        )
    return markdown_table((*header, "MFLOP per target", "ratio", "seconds", "ratio"), lines)


def context_table(rows: list[dict[str, Any]]) -> str:
    """Operations and seconds by the length of the history."""
    lines = [
        (
            row["size"],
            str(row["length"]),
            " / ".join(f"{row['flops_per_target'][name] / 1e6:,.1f}" for name in DECODERS),
            f"{row['flops_ratio']:.2f}",
            repeats(row["time_ratio"], ".2f"),
        )
        for row in rows
    ]
    return markdown_table(("size", "items before the target", "MFLOP per target", "ratio", "measured ratio"), lines)


if __name__ == "__main__":
    sys.exit(main())
