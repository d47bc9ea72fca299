"""Quality figures of semantic IDs that need no trained model.

None of these figures predicts recommendation quality: balanced codes and a small reconstruction error are easy to reach and
say little about recall. The figures reveal faults such as dead codes or a useless level. `tokenizer.quality.neighbours` and
`tokenizer.quality.prefixes` measure whether similar items share prefixes, by behaviour and by labels.
"""

from typing import Any

import numpy as np

from tokenizer.quality.neighbours import neighbour_figures
from tokenizer.quality.prefixes import entropy_of, prefix_figures
from tokenizer.quality.reconstruction import lost_by_level, reconstruction
from tokenizer.unique.collisions import UniqueCodes


def quality_figures(
    vectors_ND: np.ndarray,
    decoded_ND: np.ndarray,
    quantizer_codes_NQ: np.ndarray,
    quantizer_level_sizes: list[int],
    unique: UniqueCodes,
    *,
    latent_NW: np.ndarray,
    codebooks: list[np.ndarray],
    notes: list[str] | None = None,
    neighbours_P2: np.ndarray | None = None,
) -> dict[str, Any]:
    """All figures of one tokenization as plain JSON values.

    vectors_ND: the quantized vectors. decoded_ND: vectors decoded from the quantizer's codes. latent_NW and codebooks: the
    space in which codebook rows add up (see `tokenizer.quantizers`), to measure what each level explains. neighbours_P2:
    pairs of items with similar behaviour that training has not seen.

    Keys: `items`, `reconstruction`, `levels` (per level of the quantizer), `id_levels` (per level of the final IDs),
    `overall` (whole code sequences of the quantizer), `prefixes` (of the final IDs, per depth), `collisions_before`,
    `collisions_after`, `moved` and `extra_error` (see `UniqueCodes`), `notes`, and `neighbours` if pairs are given.
    """
    levels = level_figures(quantizer_codes_NQ, quantizer_level_sizes)
    for level, lost in zip(levels, lost_by_level(latent_NW, codebooks, quantizer_codes_NQ), strict=True):
        level["variance_lost"] = lost
    figures: dict[str, Any] = {
        "items": len(vectors_ND),
        "reconstruction": reconstruction(vectors_ND, decoded_ND),
        "levels": levels,
        "id_levels": level_figures(unique.codes_NL, unique.level_sizes),
        "overall": overall_figures(quantizer_codes_NQ, quantizer_level_sizes),
        "prefixes": prefix_figures(unique.codes_NL),
        "collisions_before": collisions(quantizer_codes_NQ),
        "collisions_after": collisions(unique.codes_NL),
        "moved": unique.moved,
        "extra_error": unique.extra_error,
        "notes": list(notes or []),
    }
    if neighbours_P2 is not None:
        figures["neighbours"] = neighbour_figures(vectors_ND, decoded_ND, quantizer_codes_NQ, neighbours_P2)
    return figures


def level_figures(codes_NL: np.ndarray, level_sizes: list[int]) -> list[dict[str, float]]:
    """For each level: how many of its codes are used, and how evenly.

    `utilisation`: used codes / size. `entropy` in nats, `entropy_share` of log(size), `perplexity` exp(entropy). `gini`: of
    the items per code, unused codes included. `largest_load`: items on the fullest code; `largest_share`: as a share of all
    items. The entropy share of a level of size one is 1.
    """
    figures = []
    for level, size in enumerate(level_sizes):
        counts_V = np.bincount(codes_NL[:, level], minlength=size)
        largest = int(counts_V.max())
        figures.append(
            {
                "size": size,
                "used": int((counts_V > 0).sum()),
                **_evenness(counts_V),
                "largest_load": largest,
                "largest_share": largest / len(codes_NL),
            }
        )
    return figures


def overall_figures(codes_NL: np.ndarray, level_sizes: list[int]) -> dict[str, float]:
    """The same for whole code sequences, as if each were a code of a single level.

    That level has `places` codes: the number of items or of possible IDs, whichever is smaller. `utilisation`,
    `entropy_share` and `gini` refer to it. `capacity`: possible IDs, a Python int of any size. `levels_in_common`: redundancy
    of the levels in nats, the sum of their entropies minus the entropy of whole sequences.
    """
    capacity = int(np.prod([int(size) for size in level_sizes], dtype=object))
    _, counts_G = np.unique(codes_NL, axis=0, return_counts=True)
    places = min(len(codes_NL), capacity)
    evenness = _evenness(np.concatenate([np.zeros(places - len(counts_G), dtype=np.int64), counts_G]))
    apart = sum(entropy_of(np.bincount(codes_NL[:, level])) for level in range(codes_NL.shape[1]))
    return {
        "capacity": capacity,
        "places": places,
        **evenness,
        "levels_in_common": max(0.0, apart - evenness["entropy"]),
    }


def _evenness(counts_V: np.ndarray) -> dict[str, float]:
    entropy = entropy_of(counts_V)
    return {
        "utilisation": float((counts_V > 0).mean()),
        "entropy": entropy,
        "entropy_share": entropy / float(np.log(len(counts_V))) if len(counts_V) > 1 else 1.0,
        "perplexity": float(np.exp(entropy)),
        "gini": gini(counts_V),
    }


def gini(counts_V: np.ndarray) -> float:
    """Gini coefficient of the loads of codes: 0 if all loads are equal, near 1 if one code has everything.

    FORGE (arXiv 2509.20904) proposes it as a measure of semantic IDs that needs no training.
    """
    ordered_V = np.sort(np.asarray(counts_V, dtype=np.float64))
    total, size = ordered_V.sum(), len(ordered_V)
    if total == 0:
        return 0.0
    return max(0.0, float((2 * np.arange(1, size + 1) - size - 1) @ ordered_V / (size * total)))


def collisions(codes_NL: np.ndarray) -> dict[str, float]:
    """Share of items with the same codes as another item, size of the largest such group, and number of distinct codes."""
    _, group_N, counts_G = np.unique(codes_NL, axis=0, return_inverse=True, return_counts=True)
    shared = counts_G[group_N.reshape(-1)] > 1
    return {
        "share_of_items": float(shared.mean()),
        "largest_group": int(counts_G.max()),
        "distinct_codes": len(counts_G),
    }


def format_quality(quality: dict[str, Any]) -> str:
    """The figures as a plain table for the terminal; figures that an older artefact lacks are left out."""
    before, after, rebuilt = quality["collisions_before"], quality["collisions_after"], quality["reconstruction"]
    lines = [
        f"items            {quality['items']:,}",
        f"reconstruction   {rebuilt['share_of_variance']:.4f} of the variance lost "
        f"(mean squared error {rebuilt['mean_squared_error']:.5g})",
        "level   size   used  utilisation  entropy  of max  perplexity   gini  fullest  variance lost",
    ]
    for number, level in enumerate(quality["levels"], start=1):
        lines.append(
            f"{number:5d}  {level['size']:5d}  {level['used']:5d}  {level['utilisation']:11.4f}"
            f"  {level['entropy']:7.4f}  {level['entropy_share']:6.3f}  {level['perplexity']:10.1f}"
            f"  {_cell(level, 'gini', '5.3f'):>5}  {_cell(level, 'largest_load', ',d'):>7}"
            f"  {_cell(level, 'variance_lost', '.4f'):>13}"
        )
    for prefix in quality.get("prefixes", [])[:-1]:
        codes = "code" if prefix["depth"] == 1 else "codes"
        lines.append(
            f"first {prefix['depth']} {codes:<7}  {prefix['distinct']:,} prefixes, {prefix['items_per_prefix']:.1f} items "
            f"each, at most {prefix['largest']:,}; {prefix['items_alone']:.1%} of the items are alone under theirs"
        )
    cost = f" (mean squared distance to the codes {quality['extra_error']:+.2%})" if "extra_error" in quality else ""
    lines.append(
        f"collisions       {before['share_of_items']:.2%} of the items shared their codes, at most "
        f"{before['largest_group']} the same; {after['share_of_items']:.2%} after {quality['moved']:,} "
        f"were given another ID{cost}"
    )
    if (neighbours := quality.get("neighbours", {})).get("pairs"):
        lines += _neighbour_lines(neighbours)
    lines.extend(f"note             {note}" for note in quality["notes"])
    return "\n".join(lines)


def _neighbour_lines(neighbours: dict[str, Any]) -> list[str]:
    agreement = zip(neighbours["prefix_agreement"], neighbours["prefix_agreement_chance"], strict=True)
    words = ", ".join(f"{share:.2%} share {depth} ({by:.2%})" for depth, (share, by) in enumerate(agreement, start=1))
    return [
        f"neighbours       of {neighbours['pairs']:,} held-out pairs {words} first codes; in brackets by chance",
        f"                 the second is among the {neighbours['k']} nearest of the first for "
        f"{neighbours['hit_rate_vectors']:.2%} as vectors, {neighbours['hit_rate_decoded']:.2%} as codes",
    ]


def _cell(figures: dict[str, float], key: str, spec: str) -> str:
    return format(figures[key], spec) if key in figures else "-"
