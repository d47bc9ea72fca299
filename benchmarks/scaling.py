"""How held-out loss falls with the generator's size: L(N) = E + A / N^alpha over six widths, and over training operations.

    python -m benchmarks.scaling --out benchmarks/results/scaling.json
    python -m benchmarks.scaling --decoder lazy --widths 16 32 64 128 --out runs/lazy.json
    python -m benchmarks.scaling --seeds 17 --widths 16 32 64 128 --rates 0.25 0.5 2 --out runs/rates.json   # is the rule right?

Every size sees each training target once, in the same order, at the rate of V2's rule, with one encoder and one decoder layer (or
two lazy ones) and feed-forward networks of 4 x width. N counts all parameters but tables: embeddings are rows that are looked up.
Losses are nats per item on validation targets; intervals resample users and seeds. OneRec-V2 (arXiv 2508.20900) prints
3.13 + 3660 / N^0.489 for 0.1 to 8 billion parameters, in nats per code, not per item.

A cell (width and seed) is kept in `--cells`; the same command goes on where it stopped, and several processes started with it
share the cells that are left. Datasets are folders below $ONEREC_DATA. `--quick` trains tiny sizes on a few hundred targets.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.generators.counted_cell import DATASETS, GeneratorRow, measure
from benchmarks.generators.power_law import fit_with_intervals
from benchmarks.output.text import markdown_table, origin
from benchmarks.study.runs import data_folder
from benchmarks.study.samples import BOOTSTRAP_SEED, SAMPLES, Sample, entry_of, sample_of
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser

NAME = "scaling"
WIDTHS, QUICK_WIDTHS = (16, 32, 64, 128, 192, 256), (4, 8, 16)
SEEDS = (17, 18)
TARGETS, QUICK_TARGETS = 1_000_000, 300
BATCH_SIZES = {"kuairand-pure": 16, "movielens-100k": 4, "amazon-beauty": 32}
AXES = {"parameters": "N", "training_flops": "C"}


def row_of(dataset: str, width: int, decoder: str, quick: bool, factor: float = 1.0) -> GeneratorRow:
    """The row of one size; `factor` multiplies the rule's learning rate."""
    layers = (0, 2) if decoder == "lazy" else (1, 1)
    chosen = {
        "width": width,
        "heads": max(1, width // 32),
        "hidden_width": 4 * width,
        "decoder": decoder,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "context": "causal",
    }
    settings = [f"generator.{key}={value}" for key, value in chosen.items()]
    settings += ["train.epochs=1", f"train.batch_size={BATCH_SIZES[dataset]}"]
    name = f"{decoder}-{width}" + (f"-rate_{factor:g}" if factor != 1 else "")
    targets = QUICK_TARGETS if quick else TARGETS
    return GeneratorRow(dataset, name, settings=tuple(settings), targets=targets, rate_factor=factor)


def main() -> int:
    """Run the cells that are missing, fit, print the table, write the file."""
    parser = study_parser(NAME, __doc__, SEEDS)
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="kuairand-pure")
    parser.add_argument("--decoder", choices=("encoder_decoder", "lazy"), default="encoder_decoder")
    parser.add_argument("--widths", nargs="+", type=int, help="at least three")
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[], help="also at the rule's rate times each of these"
    )
    parsed = parser.parse_args()
    data = data_folder(parser)
    widths = sorted(set(parsed.widths or (QUICK_WIDTHS if parsed.quick else WIDTHS)))
    if len(widths) < 3:
        parser.error("three unknowns need at least three widths")
    rows = {
        (width, factor): row_of(parsed.dataset, width, parsed.decoder, parsed.quick, factor)
        for factor in (1.0, *sorted(parsed.rates))
        for width in widths
    }
    study = Study.of(NAME, list(rows.values()), measure, data, parsed)
    wanted = chosen_rows(parser, study.rows, parsed.only)
    if not parsed.finished:
        study.run_missing(wanted)
    entries, losses = entries_of(study, rows, parsed.decoder)
    if len(entries) < 3:
        print("fewer than three sizes are finished for all seeds")
        return 1
    fits = fits_of(entries, losses)
    figures = {f"{name}_over_{axis}": fits[axis][name] for axis in AXES for name in ("alpha", "irreducible")}
    results = {**study.results(entries, figures), "fits": fits}
    return show_and_write(results, markdown, parsed.out)


def entries_of(
    study: Study, rows: dict[tuple[int, float], GeneratorRow], decoder: str
) -> tuple[list[dict[str, Any]], list[Sample]]:
    """An entry for each width that is finished with every seed, and the losses of its cases."""
    entries, losses = [], []
    for (width, factor), row in rows.items():
        cells = study.finished(row)
        if factor != 1 or len(cells) < len(study.seeds):
            continue
        results, sample = [cell.facts for cell in cells.values()], sample_of(cells, "valid")
        losses.append(sample)
        first, made = results[0], entry_of(cells)
        entries.append(
            {
                "dataset": row.dataset,
                "decoder": decoder,
                "width": width,
                **made,
                **{key: first[key] for key in ("parameters", "learning_rate", "targets_seen", "steps", "cases")},
                "training_flops": float(np.mean([one["training_flops_total"] for one in results])),
                "training_flops_by_part": first["training_flops"],
                "loss": sample.intervals()["loss"],
                "losses": [one["loss"] for one in results],
                "loss_at_other_rates": losses_at_other_rates(study, rows, width),
            }
        )
    return entries, losses


def losses_at_other_rates(study: Study, rows: dict[tuple[int, float], GeneratorRow], width: int) -> dict[str, float]:
    """A width's mean loss at multiples of the rule's rate, those that are finished with every seed."""
    found = {factor: study.finished(row) for (one, factor), row in rows.items() if one == width and factor != 1}
    return {
        f"{factor:g}": float(np.mean([cell.facts["loss"] for cell in cells.values()]))
        for factor, cells in found.items()
        if len(cells) == len(study.seeds)
    }


def fits_of(entries: list[dict[str, Any]], losses: list[Sample]) -> dict[str, Any]:
    """The law over each axis."""
    sizes = {
        "parameters": np.array([entry["parameters"]["without_tables"] for entry in entries], dtype=np.float64),
        "training_flops": np.array([entry["training_flops"] for entry in entries]),
    }
    losses_PSC = np.stack([sample.values["loss"] for sample in losses])
    options = (losses_PSC, losses[0].users_C, SAMPLES, BOOTSTRAP_SEED)
    return {axis: fit_with_intervals(sizes[axis], *options) for axis in AXES}


def markdown(results: dict[str, Any]) -> str:
    """The table and the laws for terminal and docs."""
    rows, fits = results["rows"], results["fits"]
    factors = sorted({factor for row in rows for factor in row["loss_at_other_rates"]}, key=float)
    header = ("width", "parameters (with tables)", "training TFLOP", "learning rate", "held-out loss", "fitted")
    lines = []
    for row, fitted in zip(rows, fits["parameters"]["fitted"], strict=True):
        loss, others = row["loss"], row["loss_at_other_rates"]
        lines.append(
            (
                str(row["width"]),
                f"{row['parameters']['without_tables']:,} ({row['parameters']['total']:,})",
                f"{row['training_flops'] / 1e12:,.2f}",
                f"{row['learning_rate']:.4f}",
                f"{loss['value']:.4f} ({loss['low']:.4f}–{loss['high']:.4f})",
                f"{fitted:.4f}",
                f"{row['seconds']['training_processor']:,.0f}",
                *(f"{others[factor]:.4f}" if factor in others else "" for factor in factors),
            )
        )
    shown = markdown_table((*header, "seconds", *(f"at {factor} × the rate" for factor in factors)), lines)
    first = rows[0]
    said = f"{first['dataset']}, {first['decoder']}, {first['targets_seen']:,} targets once, "
    said += f"{first['cases']:,} validation cases; "
    laws = [law_in_words(symbol, fits[axis]) for axis, symbol in AXES.items()]
    return "\n".join([shown, "", *laws, said + origin(results["run"])])


def law_in_words(symbol: str, law: dict[str, Any]) -> str:
    """`L(N) = 3.91 + 12.3 / N^0.210 nats; alpha .1 to .3, E 3.80 to 4.01, largest residual 0.0042.`"""
    alpha, least, coefficient = law["alpha"], law["irreducible"], law["coefficient"]["value"]
    worst, border = max(abs(residual) for residual in law["residuals"]), law["resamples_at_the_border"]
    text = (
        f"L({symbol}) = {least['value']:.2f} + {coefficient:,.3g} / {symbol}^{alpha['value']:.3f} nats; alpha "
        f"{alpha['low']:.3f} to {alpha['high']:.3f}, E {least['low']:.2f} to {least['high']:.2f}, "
        f"largest residual {worst:.4f}."
    )
    return text + (f" {border:.0%} of the resamples do not determine alpha." if border > 0 else "")


if __name__ == "__main__":
    sys.exit(main())
