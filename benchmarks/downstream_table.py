"""The downstream table and the claims it decides, from the cells that are finished."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import BOOTSTRAP_SEED, SAMPLES, read_cells
from benchmarks.downstream_cells import Row

ENTROPY_BAR = 0.96
CODES_ONLY = "codes only"
HEADER = (
    "vectors",
    "quantizer",
    "unique by",
    "Recall@10",
    "NDCG@10",
    "Recall@50",
    "Recall@10 against RQ-KMeans on content",
    "valid NDCG@10",
    "variance lost",
    "sharing codes",
    "held-out pairs among 10 nearest",
    "seeds",
)


def table(rows: list[Row], seeds: list[int], cells: Path) -> list[dict[str, Any]]:
    """One entry per row with at least one finished cell: means over seeds, intervals over seeds and users, its cells.

    `difference` is to RQ-KMeans on content with the same dataset and generator, `by_alignment` to the same quantizer on
    content; both on the seeds that both rows have, paired by user and seed.
    """
    from onerec.evaluate.metrics import ndcg, recall

    loaded = {row: _cells_of(row, seeds, cells) for row in rows}
    made = []
    for row, found in loaded.items():
        if not found:
            continue
        entry = _summary(row, found)
        ranks_SC = np.stack([ranks for _, ranks in found.values()])
        for name, metric, k in (("recall@10", recall, 10), ("ndcg@10", ndcg, 10), ("recall@50", recall, 50)):
            entry[name] = _interval(metric(ranks_SC, k))
        for key, other in (("difference", _like(row, loaded, "rq_kmeans")), ("by_alignment", _unaligned(row, loaded))):
            shared = [seed for seed in found if seed in other]
            if shared and other is not found:
                ours, theirs = (np.stack([of[seed][1] for seed in shared]) for of in (found, other))
                entry[key] = _interval(recall(ours, 10) - recall(theirs, 10))
        made.append(entry)
    return made


def _cells_of(row: Row, seeds: list[int], cells: Path) -> dict[int, tuple[Any, ...]]:
    return read_cells({seed: cells / row.dataset / f"{row.name}-{seed}" for seed in seeds}, "ranks")


def _like(row: Row, loaded: dict[Row, Any], method: str) -> Any:
    """Cells of the row that differs by coming from content alone through `method`; {} where there is none."""
    for other, found in loaded.items():
        alike = (other.dataset, other.codes_only, other.unique) == (row.dataset, row.codes_only, "nearest_free")
        if alike and (other.vectors, other.method, other.settings) == ("content", method, ()):
            return found
    return {}


def _unaligned(row: Row, loaded: dict[Row, Any]) -> Any:
    """Cells of the same quantizer on content alone, for an aligned row; {} for others."""
    return _like(row, loaded, row.method) if row.vectors == "aligned" else {}


def _interval(values_SC: np.ndarray) -> dict[str, float]:
    from onerec.evaluate.bootstrap import interval_over_seeds

    return interval_over_seeds(values_SC, np.arange(values_SC.shape[1]), SAMPLES, BOOTSTRAP_SEED)


def _summary(row: Row, found: dict[int, tuple[Any, ...]]) -> dict[str, Any]:
    """What does not need the ranks: validation, quality of the IDs, time, and the cells themselves."""
    cells = [cell for cell, _ in found.values()]
    quality = [cell["quality"] for cell in cells]
    levels = range(len(quality[0]["levels"]))
    return {
        "dataset": row.dataset,
        "name": row.name,
        "label": row.label or row.method,
        "vectors": row.vectors,
        "unique": row.unique,
        "generator": CODES_ONLY if row.codes_only else "own embedding and item head too",
        "seeds": list(found),
        "valid_recall@10": float(np.mean([cell["valid"]["recall@10"] for cell in cells])),
        "valid_ndcg@10": float(np.mean([cell["valid"]["ndcg@10"] for cell in cells])),
        "id_recall@10": float(np.mean([cell["test"]["id_recall@10"]["value"] for cell in cells])),
        "variance_lost": float(np.mean([one["reconstruction"]["share_of_variance"] for one in quality])),
        "utilisation": [float(np.min([one["levels"][level]["utilisation"] for one in quality])) for level in levels],
        "entropy_share": [
            float(np.min([one["levels"][level]["entropy_share"] for one in quality])) for level in levels
        ],
        "items_sharing_codes": float(np.mean([one["collisions_before"]["share_of_items"] for one in quality])),
        "pair_hit_rate@10": float(np.mean([cell["pair_hit_rate"]["10"] for cell in cells])),
        "pair_hit_rate@50": float(np.mean([cell["pair_hit_rate"]["50"] for cell in cells])),
        "seconds": float(np.mean([cell["seconds"]["total"] for cell in cells])),
        "commits": sorted({cell["commit"] for cell in cells}),
        "dirty": any(cell["dirty"] for cell in cells),
        "by_seed": {str(cell["seed"]): cell["test"]["recall@10"]["value"] for cell in cells},
    }


def claims(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The papers' claims, each with the figures that decide it here; left out where the rows are missing."""
    rows = {row["name"]: row for row in made if row["dataset"] == "amazon-beauty"}
    stated: list[dict[str, Any]] = []

    def state(claim: str, holds: bool, **figures: Any) -> None:
        stated.append({"claim": claim, "holds": holds, "figures": figures})

    kmeans, vae = rows.get("rq_kmeans-content"), rows.get("rq_vae-content")
    if kmeans and vae:
        lost = {"rq_kmeans": kmeans["variance_lost"], "rq_vae": vae["variance_lost"]}
        state("RQ-KMeans reconstructs better than RQ-VAE (OneRec)", lost["rq_kmeans"] < lost["rq_vae"], **lost)
    # Ways of uniqueness come after the quantizer, whose codes and figures are the same for all of them.
    alike = [row for row in rows.values() if row["unique"] == "nearest_free" and row["generator"] == CODES_ONLY]
    family = {row["name"]: row for row in alike if row["label"] in ("rq_kmeans", "balanced_rq_kmeans")}
    if family:
        least = {name: min(row["utilisation"]) for name, row in family.items()}
        state("utilisation is 1.0 on every level with RQ-KMeans (OneRec)", min(least.values()) == 1.0, **least)
    for name, row in family.items():
        shares, balanced = row["entropy_share"], row["label"] == "balanced_rq_kmeans"
        bar, words = (1 - 1e-4, "all of") if balanced else (ENTROPY_BAR, f"at least {ENTROPY_BAR} of")
        state(
            f"entropy is {words} its maximum on every level, {name} (OneRec)", min(shares) >= bar, entropy_share=shares
        )
    for dataset in sorted({row["dataset"] for row in made}):
        stated.extend(_downstream_claims({row["name"]: row for row in made if row["dataset"] == dataset}, dataset))
    return stated


def _downstream_claims(rows: dict[str, dict[str, Any]], dataset: str) -> list[dict[str, Any]]:
    stated = []
    for suffix, words in (("", ""), ("-whole_generator", ", whole generator")):
        random = rows.get(f"random-content{suffix}")
        if random and "difference" in random:
            stated.append(
                {
                    "claim": f"random IDs lose clearly on {dataset}{words} (TIGER: .043 against .065)",
                    "holds": random["difference"]["high"] < 0,
                    "figures": {"random_minus_rq_kmeans": random["difference"]},
                }
            )
    for name, row in rows.items():
        plain = rows.get(name.replace("-aligned", "-content"))
        if plain is None or "by_alignment" not in row:
            continue
        held = {"content": plain["pair_hit_rate@10"], "aligned": row["pair_hit_rate@10"]}
        stated.append(
            {
                "claim": f"alignment raises the hit rate of held-out pairs, {name} on {dataset} (OneRec, QARM)",
                "holds": held["aligned"] > held["content"],
                "figures": held,
            }
        )
        stated.append(
            {
                "claim": f"alignment raises downstream Recall@10, {name} on {dataset} (OneRec, QARM)",
                "holds": row["by_alignment"]["low"] > 0,
                "figures": {"aligned_minus_content": row["by_alignment"]},
            }
        )
    return stated


def outside(made: list[dict[str, Any]], stored: list[dict[str, Any]]) -> list[str]:
    """A line for each row whose Recall@10 lies outside the interval on file, or is not on file."""
    known = {(row["dataset"], row["name"]): row["recall@10"] for row in stored}
    lines = []
    for row in made:
        interval, value = known.get((row["dataset"], row["name"])), row["recall@10"]["value"]
        if interval is None:
            lines.append(f"{row['name']}: not on file")
        elif not interval["low"] <= value <= interval["high"]:
            lines.append(f"{row['name']}: {value:.4f} outside {interval['low']:.4f} to {interval['high']:.4f}")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """One table per dataset and kind of generator, and the claims, for terminal and docs."""
    from benchmarks.result_tables import origin

    made, parts = results["rows"], []
    for dataset, generator in dict.fromkeys((row["dataset"], row["generator"]) for row in made):
        parts.append(f"**{dataset}**, the generator reads and writes {generator}:")
        parts.append(_one_table([row for row in made if (row["dataset"], row["generator"]) == (dataset, generator)]))
    lines = ["| claim | here | figures |", "|---|---|---|"]
    for one in results["claims"]:
        lines.append(f"| {one['claim']} | {'holds' if one['holds'] else '**fails**'} | {_words(one['figures'])} |")
    parts.append("\n".join(lines))
    return "\n\n".join([*parts, origin(results["run"])])


def _one_table(made: list[dict[str, Any]]) -> str:
    from benchmarks.result_tables import interval, share, signed

    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for row in made:
        cells = [
            row["vectors"],
            f"`{row['label']}`",
            row["unique"].replace("_", " "),
            interval(row["recall@10"]),
            share(row["ndcg@10"]["value"]),
            share(row["recall@50"]["value"]),
            signed(row["difference"]) if "difference" in row else "",
            share(row["valid_ndcg@10"]),
            f"{row['variance_lost']:.3f}".removeprefix("0"),
            f"{row['items_sharing_codes']:.0%}",
            f"{row['pair_hit_rate@10']:.1%}",
            str(len(row["seeds"])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _words(figures: dict[str, Any]) -> str:
    """Figures of a claim in one cell: intervals as such, lists level by level."""
    from benchmarks.result_tables import signed

    said = []
    for name, value in figures.items():
        if isinstance(value, dict):
            text = signed(value)
        elif isinstance(value, list):
            text = " / ".join(f"{one:.3f}" for one in value)
        else:
            text = f"{value:.4f}"
        said.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(said)
