"""What papers claim of semantic IDs, held against the entries of the downstream table."""

from typing import Any

ENTROPY_BAR = 0.96
Rows = dict[str, dict[str, Any]]  # of one dataset, by name


def claims_of(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each claim with the figures that decide it here; claims whose rows are missing are left out."""
    stated = tokenizer_claims({row["name"]: row for row in entries if row["dataset"] == "amazon-beauty"})
    for dataset in sorted({row["dataset"] for row in entries}):
        stated += generator_claims({row["name"]: row for row in entries if row["dataset"] == dataset}, dataset)
    return stated


def tokenizer_claims(rows: Rows) -> list[dict[str, Any]]:
    """Claims about the IDs themselves."""
    stated = []
    kmeans, vae = rows.get("rq_kmeans-content"), rows.get("rq_vae-content")
    if kmeans and vae:
        lost = {"rq_kmeans": kmeans["variance_lost"], "rq_vae": vae["variance_lost"]}
        stated.append(
            claim("RQ-KMeans reconstructs better than RQ-VAE (OneRec)", lost["rq_kmeans"] < lost["rq_vae"], **lost)
        )
    # IDs are made unique after the quantizer, so rows that differ in that have the same codes and figures.
    alike = [row for row in rows.values() if row["unique"] == "nearest_free" and row["generator"] == "codes only"]
    family = {row["name"]: row for row in alike if row["label"] in ("rq_kmeans", "balanced_rq_kmeans")}
    if family:
        least = {name: min(row["utilisation"]) for name, row in family.items()}
        words = "utilisation is 1.0 on every level with RQ-KMeans (OneRec)"
        stated.append(claim(words, min(least.values()) == 1.0, **least))
    for name, row in family.items():
        balanced = row["label"] == "balanced_rq_kmeans"
        bar, words = (1 - 1e-4, "all of") if balanced else (ENTROPY_BAR, f"at least {ENTROPY_BAR} of")
        words = f"entropy is {words} its maximum on every level, {name} (OneRec)"
        stated.append(claim(words, min(row["entropy_share"]) >= bar, entropy_share=row["entropy_share"]))
    return stated


def generator_claims(rows: Rows, dataset: str) -> list[dict[str, Any]]:
    """Claims about the generator that is trained on the IDs."""
    stated = []
    for suffix, words in (("", ""), ("-whole_generator", ", whole generator")):
        random = rows.get(f"random-content{suffix}")
        if random and "difference" in random:
            words = f"random IDs lose clearly on {dataset}{words} (TIGER: .043 against .065)"
            difference = random["difference"]
            stated.append(claim(words, difference["high"] < 0, random_minus_rq_kmeans=difference))
    for name, row in rows.items():
        plain = rows.get(name.replace("-aligned", "-content"))
        if plain is None or "by_alignment" not in row:
            continue
        held = {"content": plain["pair_hit_rate@10"], "aligned": row["pair_hit_rate@10"]}
        words = f"alignment raises the hit rate of held-out pairs, {name} on {dataset} (OneRec, QARM)"
        stated.append(claim(words, held["aligned"] > held["content"], **held))
        words = f"alignment raises downstream Recall@10, {name} on {dataset} (OneRec, QARM)"
        difference = row["by_alignment"]
        stated.append(claim(words, difference["low"] > 0, aligned_minus_content=difference))
    return stated


def claim(words: str, holds: bool, **figures: Any) -> dict[str, Any]:
    """One claim, whether it holds here, and by which figures."""
    return {"claim": words, "holds": bool(holds), "figures": figures}
