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

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import data_folder
from benchmarks.generator_cells import DATASETS, Cell, read_cell, run_facts, run_missing
from benchmarks.power_law import fit_with_intervals
from benchmarks.results_file import write_results_file

WIDTHS, QUICK_WIDTHS = (16, 32, 64, 128, 192, 256), (4, 8, 16)
SEEDS = (17, 18)
TARGETS, QUICK_TARGETS = 1_000_000, 300
BATCH_SIZES = {"kuairand-pure": 16, "movielens-100k": 4, "amazon-beauty": 32}
SAMPLES, BOOTSTRAP_SEED = 1000, 17
AXES = {"parameters": "N", "training_flops": "C"}


def cell_of(dataset: str, width: int, decoder: str, seed: int, quick: bool, factor: float = 1.0) -> Cell:
    """The cell of one size; `factor` multiplies the rule's learning rate."""
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
    targets = QUICK_TARGETS if quick else TARGETS
    name = f"{decoder}-{width}-{seed}" + (f"-rate_{factor:g}" if factor != 1 else "")
    return Cell(dataset, name, tuple(settings), targets, seed, quick, factor)


def main() -> int:
    """Run the cells that are missing, fit, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=Path, default=Path("runs/scaling"), help="folder of finished cells")
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="kuairand-pure")
    parser.add_argument("--decoder", choices=("encoder_decoder", "lazy"), default="encoder_decoder")
    parser.add_argument("--widths", nargs="+", type=int, help="at least three")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[], help="also at the rule's rate times each of these"
    )
    parser.add_argument("--run", type=Path, help="folder of a run whose report is to show the curve")
    parser.add_argument("--finished", action="store_true", help="run no cell, fit those that are there")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    data = data_folder(parser)
    widths = sorted(set(parsed.widths or (QUICK_WIDTHS if parsed.quick else WIDTHS)))
    if len(widths) < 3:
        parser.error("three unknowns need at least three widths")
    cells = parsed.cells / ("quick" if parsed.quick else "full")
    if not parsed.finished:
        wanted = [
            cell_of(parsed.dataset, width, parsed.decoder, seed, parsed.quick, factor)
            for factor in (1.0, *parsed.rates)
            for seed in parsed.seeds
            for width in widths
        ]
        run_missing(wanted, data, cells)
    rows, fits = points_and_fits(parsed, widths, cells)
    if not fits:
        print("fewer than three sizes are finished for all seeds")
        return 1
    measured = [result for row in rows for result in row.pop("results")]
    run = run_facts("scaling", measured, parsed.seeds, parsed.quick)
    figures = {f"{name}_over_{axis}": fits[axis][name] for axis in AXES for name in ("alpha", "irreducible")}
    results = {"run": run, "figures": figures, "rows": rows, "fits": fits}
    print(markdown(results))
    for path in (parsed.out, *([parsed.run / "scaling.json"] if parsed.run else [])):
        write_results_file(path, results)
    return 0


def points_and_fits(parsed: Any, widths: list[int], cells: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per width that is finished for every seed, and the law over each axis; no law below three rows."""
    from onerec.evaluate.bootstrap import interval_over_seeds

    rows, losses_PSC, users_C = [], [], np.zeros(0)
    for width in widths:
        names = [cell_of(parsed.dataset, width, parsed.decoder, seed, parsed.quick).name for seed in parsed.seeds]
        found = [read_cell(cells / parsed.dataset / name) for name in names]
        done = [cell for cell in found if cell is not None]
        if len(done) < len(found):
            continue
        results, first = [result for result, _ in done], done[0][0]
        losses_SC, users_C = np.stack([losses[1] for _, losses in done]), done[0][1][0]
        losses_PSC.append(losses_SC)
        rows.append(
            {
                "dataset": parsed.dataset,
                "decoder": parsed.decoder,
                "width": width,
                "parameters": first["parameters"],
                "learning_rate": first["learning_rate"],
                "training_flops": float(np.mean([one["training_flops_total"] for one in results])),
                "training_flops_by_part": first["training_flops"],
                "targets_seen": first["targets_seen"],
                "steps": first["steps"],
                "cases": first["cases"],
                "loss": interval_over_seeds(losses_SC, users_C, SAMPLES, BOOTSTRAP_SEED),
                "losses": [one["loss"] for one in results],
                "seconds": float(np.mean([one["seconds"]["training_processor"] for one in results])),
                "loss_at_other_rates": losses_at_other_rates(parsed, width, cells),
                "results": results,
            }
        )
    if len(rows) < 3:
        return rows, {}
    sizes = {
        "parameters": np.array([row["parameters"]["without_tables"] for row in rows], dtype=np.float64),
        "training_flops": np.array([row["training_flops"] for row in rows]),
    }
    options = (np.stack(losses_PSC), users_C, SAMPLES, BOOTSTRAP_SEED)
    return rows, {axis: fit_with_intervals(sizes[axis], *options) for axis in AXES}


def losses_at_other_rates(parsed: Any, width: int, cells: Path) -> dict[str, float]:
    """Mean loss over seeds of a width at multiples of the rule's rate, those that are finished for every seed."""
    found: dict[str, float] = {}
    for factor in sorted(parsed.rates):
        names = [
            cell_of(parsed.dataset, width, parsed.decoder, seed, parsed.quick, factor).name for seed in parsed.seeds
        ]
        done = [cell for cell in (read_cell(cells / parsed.dataset / name) for name in names) if cell is not None]
        if len(done) == len(names):
            found[f"{factor:g}"] = float(np.mean([result["loss"] for result, _ in done]))
    return found


def markdown(results: dict[str, Any]) -> str:
    """The table and the laws for terminal and docs."""
    from benchmarks.result_tables import origin

    fits = results["fits"]
    factors = sorted({factor for row in results["rows"] for factor in row["loss_at_other_rates"]}, key=float)
    lines = [
        "| width | parameters (with tables) | training TFLOP | learning rate | held-out loss | fitted | seconds |"
        + "".join(f" at {factor} × the rate |" for factor in factors),
        "|" + "---|" * (7 + len(factors)),
    ]
    for row, fitted in zip(results["rows"], fits["parameters"]["fitted"], strict=True):
        loss = row["loss"]
        cells = [
            str(row["width"]),
            f"{row['parameters']['without_tables']:,} ({row['parameters']['total']:,})",
            f"{row['training_flops'] / 1e12:,.2f}",
            f"{row['learning_rate']:.4f}",
            f"{loss['value']:.4f} ({loss['low']:.4f}–{loss['high']:.4f})",
            f"{fitted:.4f}",
            f"{row['seconds']:,.0f}",
        ]
        others = row["loss_at_other_rates"]
        cells += [f"{others[factor]:.4f}" if factor in others else "" for factor in factors]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for axis, symbol in AXES.items():
        law = fits[axis]
        alpha, least = law["alpha"], law["irreducible"]
        worst, coefficient = max(abs(residual) for residual in law["residuals"]), law["coefficient"]["value"]
        text = (
            f"L({symbol}) = {least['value']:.2f} + {coefficient:,.3g} / {symbol}^{alpha['value']:.3f} nats; alpha "
            f"{alpha['low']:.3f} to {alpha['high']:.3f}, E {least['low']:.2f} to {least['high']:.2f}, "
            f"largest residual {worst:.4f}."
        )
        border = law["resamples_at_the_border"]
        lines.append(text + (f" {border:.0%} of the resamples do not determine alpha." if border > 0 else ""))
    first = results["rows"][0]
    lines.append(
        f"{first['dataset']}, {first['decoder']}, {first['targets_seen']:,} targets once, {first['cases']:,} validation cases; "
        f"{origin(results['run'])}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
