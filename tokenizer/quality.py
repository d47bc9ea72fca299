"""How good semantic IDs are, before anything is trained on them.

None of these figures predicts recommendation quality: balanced codes and a small reconstruction error are cheap to get
and say little about recall. They are here to catch what is broken, such as dead codes or a level nobody needs.
"""

from typing import Any

import numpy as np

from tokenizer.unique import UniqueCodes


def quality_figures(
    vectors_ND: np.ndarray,
    decoded_ND: np.ndarray,
    quantizer_codes_NQ: np.ndarray,
    quantizer_level_sizes: list[int],
    unique: UniqueCodes,
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """All figures of one tokenization as plain JSON values.

    vectors_ND: what was quantized; decoded_ND: what the quantizer's own codes stand for. Keys: `items`,
    `reconstruction`, `levels` (per level of the quantizer), `id_levels` (per level of the final IDs),
    `collisions_before`, `collisions_after`, `moved`, `notes`.
    """
    return {
        "items": len(vectors_ND),
        "reconstruction": reconstruction(vectors_ND, decoded_ND),
        "levels": level_figures(quantizer_codes_NQ, quantizer_level_sizes),
        "id_levels": level_figures(unique.codes_NL, unique.level_sizes),
        "collisions_before": collisions(quantizer_codes_NQ),
        "collisions_after": collisions(unique.codes_NL),
        "moved": unique.moved,
        "notes": list(notes or []),
    }


def reconstruction(vectors_ND: np.ndarray, decoded_ND: np.ndarray) -> dict[str, float]:
    """Mean squared length of what the codes leave unexplained, and its share of the variance of the vectors.

    The share is 0 for perfect codes and 1 for codes that know only the mean; for vectors without variance it is 0 when
    nothing is lost. The first figure depends on the scale of the vectors, compare it on the same vectors only.
    """
    error = float(np.square(vectors_ND - decoded_ND, dtype=np.float64).sum(axis=1).mean())
    variance = float(np.var(vectors_ND, axis=0, dtype=np.float64).sum())
    scale = float(np.square(vectors_ND, dtype=np.float64).sum(axis=1).mean())
    if variance <= 1e-12 * scale:  # rounding of identical rows
        return {"mean_squared_error": error, "share_of_variance": 0.0 if error <= 1e-9 * scale else 1.0}
    return {"mean_squared_error": error, "share_of_variance": error / variance}


def level_figures(codes_NL: np.ndarray, level_sizes: list[int]) -> list[dict[str, float]]:
    """Per level: size, codes used, utilisation, entropy (nats), its share of log(size), and perplexity exp(entropy).

    A level of size one has no entropy to have; its share counts as 1.
    """
    figures = []
    for level, size in enumerate(level_sizes):
        counts_V = np.bincount(codes_NL[:, level], minlength=size)
        share = counts_V[counts_V > 0] / len(codes_NL)
        entropy = abs(float(-(share * np.log(share)).sum()))
        figures.append(
            {
                "size": size,
                "used": int((counts_V > 0).sum()),
                "utilisation": float((counts_V > 0).mean()),
                "entropy": entropy,
                "entropy_share": entropy / float(np.log(size)) if size > 1 else 1.0,
                "perplexity": float(np.exp(entropy)),
            }
        )
    return figures


def collisions(codes_NL: np.ndarray) -> dict[str, float]:
    """Share of items that share their codes with another, the largest group with the same codes, distinct codes."""
    _, group_N, counts_G = np.unique(codes_NL, axis=0, return_inverse=True, return_counts=True)
    shared = counts_G[group_N.reshape(-1)] > 1
    return {
        "share_of_items": float(shared.mean()),
        "largest_group": int(counts_G.max()),
        "distinct_codes": len(counts_G),
    }


def format_quality(quality: dict[str, Any]) -> str:
    """The figures as a plain table for the terminal."""
    before, after, rebuilt = quality["collisions_before"], quality["collisions_after"], quality["reconstruction"]
    lines = [
        f"items            {quality['items']:,}",
        f"reconstruction   {rebuilt['share_of_variance']:.4f} of the variance lost "
        f"(mean squared error {rebuilt['mean_squared_error']:.5g})",
        "level   size   used  utilisation  entropy  of max  perplexity",
    ]
    for number, level in enumerate(quality["levels"], start=1):
        lines.append(
            f"{number:5d}  {level['size']:5d}  {level['used']:5d}  {level['utilisation']:11.4f}"
            f"  {level['entropy']:7.4f}  {level['entropy_share']:6.3f}  {level['perplexity']:10.1f}"
        )
    lines.append(
        f"collisions       {before['share_of_items']:.2%} of the items shared their codes, at most "
        f"{before['largest_group']} the same; {after['share_of_items']:.2%} after {quality['moved']:,} "
        "were given another ID"
    )
    lines.extend(f"note             {note}" for note in quality["notes"])
    return "\n".join(lines)
