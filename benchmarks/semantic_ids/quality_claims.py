"""What papers claim about their tokenizers, held against the figures of this project's own runs.

Source: the OneRec Technical Report (arXiv 2506.13695), which compares RQ-VAE, RQ-KMeans and its balanced variant, and aligns item
vectors by contrast. Its figures come from 8,192 codes a level and a far larger catalogue. The claim that labels are purer under
prefixes than by chance is this project's own.
"""

from typing import Any

EVEN = 0.96
BALANCED = 0.999  # entropy share; codes whose loads differ by one at most come nearer to 1
PURER = 1.5  # times the purity of shuffled labels; our own measure of a wide margin
ALIGNED, PLAIN = "aligned", "content"


def claims_of(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Each claim on each kind of vectors: `claim`, `vectors`, `here` ("holds" or "does not hold"), `figures`.

    Claims whose quantizers, vectors or labels were not measured are left out.
    """
    claims = []
    for kind in dict.fromkeys(row["vectors"] for row in rows):
        measured = {row["method"]: row for row in rows if row["vectors"] == kind}
        claims += _reconstruction(kind, measured)
        claims += _evenness(kind, measured)
        claims += _purity(kind, measured)
    return claims + _alignment(rows)


def _reconstruction(kind: str, measured: dict[str, Any]) -> list[dict[str, str]]:
    if not {"rq_kmeans", "rq_vae"} <= measured.keys():
        return []
    quality = [measured[method]["quality"] for method in ("rq_kmeans", "rq_vae")]
    means, vae = (entry["reconstruction"]["share_of_variance"] for entry in quality)
    figures = f"{means:.4f} against {vae:.4f} of the variance lost"
    return [_claim("RQ-KMeans reconstructs better than RQ-VAE", kind, means < vae, figures)]


def _evenness(kind: str, measured: dict[str, Any]) -> list[dict[str, str]]:
    claims = []
    wanted = {
        "rq_kmeans": ("RQ-KMeans", f"{EVEN} or more", EVEN),
        "balanced_rq_kmeans": ("balanced RQ-KMeans", "1.0", BALANCED),
    }
    for method, (name, words, least) in wanted.items():
        if method in measured:
            levels = measured[method]["quality"]["levels"]
            used, even = ([level[key] for level in levels] for key in ("utilisation", "entropy_share"))
            claims.append(_claim(f"{name}: utilisation 1.0 on every level", kind, min(used) == 1, _by_level(used)))
            words = f"{name}: normalised entropy of {words} on every level"
            claims.append(_claim(words, kind, min(even) >= least, _by_level(even)))
    return claims


def _purity(kind: str, measured: dict[str, Any]) -> list[dict[str, str]]:
    claims = []
    for label, depths in measured.get("rq_kmeans", {}).get("purity", {}).items():
        purity, chance = depths[0]["purity"], depths[0]["chance"]
        words = f"RQ-KMeans: {label.replace('_', ' ')} is {PURER} times as pure under first codes as when shuffled"
        claims.append(_claim(words, kind, purity >= PURER * chance, f"{purity:.3f} against {chance:.3f}"))
    return claims


def _alignment(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    rates = {row["vectors"]: row["quality"]["neighbours"].get("hit_rate_vectors") for row in rows}
    aligned, plain = rates.get(ALIGNED), rates.get(PLAIN)
    if aligned is None or plain is None:
        return []
    words = "alignment raises the hit rate on held-out behavioural pairs"
    return [_claim(words, f"{ALIGNED} against {PLAIN}", aligned > plain, f"{aligned:.2%} against {plain:.2%}")]


def _claim(words: str, vectors: str, holds: bool, figures: str) -> dict[str, str]:
    return {"claim": words, "vectors": vectors, "here": "holds" if holds else "does not hold", "figures": figures}


def _by_level(values: list[float]) -> str:
    return " / ".join(f"{value:.4f}" for value in values)
