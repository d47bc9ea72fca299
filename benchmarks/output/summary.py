"""The README's compact table."""

import json
from pathlib import Path

from benchmarks.output.text import markdown_table, share, signed_interval

FILES = {"demo": "MovieLens-100K", "beauty": "Amazon Beauty", "kuairand": "KuaiRand-Pure"}
MODELS = ("onerec", "onerec_selection", "sasrec", "item_knn")
PAIRS = (("onerec", "sasrec"), ("onerec", "item_knn"), ("onerec_selection", "sasrec"))


def summary(folder: Path) -> str:
    """Recall@10 and NDCG@10 of four models, paired differences of Recall@10; a column per dataset.

    Args:
        folder: of results files of complete runs over several seeds.
    """
    results = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in FILES]
    models = [{row["model"]: row for row in one["rows"]} for one in results]
    labels = {name: models[0][name]["label"] for name in MODELS}
    rows = []
    for name in MODELS:
        tests = [one[name]["test"] for one in models]
        cells = [f"{share(test['recall@10']['value'])} / {share(test['ndcg@10']['value'])}" for test in tests]
        rows.append([labels[name], *cells])
    for first, second in PAIRS:
        cells = [signed_interval(one["figures"][f"{first}_minus_{second}_recall@10"]) for one in results]
        rows.append([f"Recall@10: {labels[first]} − {labels[second]}", *cells])
    counts = [[f"{one['dataset'][key]:,}" for key in ("users", "items", "events")] for one in results]
    rows.append(["users; items; events", *("; ".join(numbers) for numbers in counts)])
    return markdown_table(("Recall@10 / NDCG@10", *FILES.values()), rows)
