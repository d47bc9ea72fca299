"""The benchmark of tokenizer quality on a tiny dataset, and the claims it holds its figures against."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import tokenizer_quality
from benchmarks.semantic_ids.quality_claims import claims_of
from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, write_dataset
from onerec.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two datasets of the same items, one whose events are sets: captions that go with a category."""
    generator = np.random.default_rng(0)
    topics, items, users = ["红 指甲", "口红 唇", "洗发 水", "香 水 花"], 120, 80
    topic = generator.integers(0, 4, items)
    table = pl.DataFrame(
        {
            "item": np.arange(items),
            "caption": [f"{topics[t]} {'甲乙丙丁戊己庚辛'[n % 8]}" for n, t in enumerate(topic)],
            "topic": [f"t{t}" if n % 9 else "UNKNOWN" for n, t in enumerate(topic)],
        }
    )
    taken = generator.permuted(np.tile(np.arange(items), (users, 1)), axis=1)[:, :5].ravel()
    events = pl.DataFrame({"user": np.repeat(np.arange(users), 5), "item": taken})
    periods = events.with_columns(pl.Series("period", ["train", "train", "valid", "train", "test"] * users))
    root, columns = tmp_path_factory.mktemp("data"), ItemColumns(id="item", text=["caption"], categorical=["topic"])
    ordered = DatasetSpec(name="ordered", events=EventColumns(user="user", item="item"), items=columns)
    unordered = EventColumns(user="user", item="item", period="period", order="none (sets)")
    sets = DatasetSpec(name="sets", events=unordered, items=columns, split="by_period")
    write_dataset(root / "ordered", ordered, events, table)
    write_dataset(root / "sets", sets, periods, table)
    return root


def run_benchmark(monkeypatch: pytest.MonkeyPatch, data: Path, out: Path, *options: str) -> dict[str, Any]:
    monkeypatch.setenv("ONEREC_DATA", str(data))
    cells = str(out.parent / "cells")
    monkeypatch.setattr(sys, "argv", ["tokenizer_quality", "--out", str(out), "--cells", cells, "--quick", *options])
    assert tokenizer_quality.main() == 0
    return dict(json.loads(out.read_text(encoding="utf-8")))


def test_the_results_file_and_the_tables(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--dataset", "sets", "--text", "caption", "--labels", "topic", "--level-sizes", "8", "16"]
    options += ["--methods", "rq_kmeans", "rq_vae", "random", "--vectors", "content", "content_and_behaviour"]
    results = run_benchmark(monkeypatch, data, tmp_path / "q.json", *options)
    assert results["run"]["quick"] is True
    assert results["run"]["pairs_in_order"] is False
    assert results["run"]["content"]["categorical"] == []
    assert results["run"]["command"].startswith("python -m benchmarks.tokenizer_quality --out")
    assert [(row["vectors"], row["method"]) for row in results["rows"]] == [
        (vectors, method)
        for vectors in ("content", "content_and_behaviour")
        for method in ("rq_kmeans", "rq_vae", "random")
    ]
    rows = {(row["vectors"], row["method"]): row for row in results["rows"]}
    kmeans, random = (rows["content", method]["purity"]["topic"][0] for method in ("rq_kmeans", "random"))
    assert kmeans["purity"] > 1.5 * kmeans["chance"]
    assert abs(random["adjusted"]) < 0.2 < kmeans["adjusted"]
    levels = rows["content", "rq_kmeans"]["quality"]["levels"]
    assert levels[0]["variance_lost"] > levels[1]["variance_lost"]
    assert levels[1]["variance_lost"] == pytest.approx(results["figures"]["variance_lost_rq_kmeans_content"])
    assert 0 <= results["figures"]["hit_rate_decoded_rq_kmeans_content"] <= 1
    assert results["rows"][0]["purity"]["topic"][0]["items"] == 120 - len(range(0, 120, 9))
    claims = {(claim["claim"], claim["vectors"]): claim["here"] for claim in results["claims"]}
    assert claims[("RQ-KMeans reconstructs better than RQ-VAE", "content")] in ("holds", "does not hold")
    printed = capsys.readouterr().out
    for row in results["rows"]:
        assert f"| {row['vectors'].replace('_', ' ')} ({row['width']}) | `{row['method']}` |" in printed
    assert printed.count("| claim |") == 1


def test_alignment_is_measured_beside_plain_content(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--dataset", "ordered", "--level-sizes", "8", "16", "--methods", "rq_kmeans"]
    results = run_benchmark(monkeypatch, data, tmp_path / "q.json", *options)
    assert results["run"]["pairs_in_order"] is True
    assert {row["vectors"] for row in results["rows"]} == {"content", "content_and_behaviour", "aligned"}
    verdicts = [claim for claim in results["claims"] if claim["claim"].startswith("alignment raises")]
    aligned, plain = results["figures"]["hit_rate_aligned"], results["figures"]["hit_rate_content"]
    assert [claim["here"] for claim in verdicts] == ["holds" if aligned > plain else "does not hold"]


def test_a_label_must_not_describe_its_items(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--dataset", "sets", "--text", "caption", "topic", "--labels", "topic"]
    with pytest.raises(UserError, match="topic: named by --text and by --labels"):
        run_benchmark(monkeypatch, data, tmp_path / "q.json", *options)
    with pytest.raises(UserError, match='no column "topics"'):
        run_benchmark(monkeypatch, data, tmp_path / "q.json", "--dataset", "sets", "--labels", "topics")


def row(
    method: str, lost: float, used: list[float], even: list[float], vectors: str = "content", rate: float = 0.1
) -> dict:
    levels = [{"utilisation": u, "entropy_share": e} for u, e in zip(used, even, strict=True)]
    quality = {
        "reconstruction": {"share_of_variance": lost},
        "levels": levels,
        "neighbours": {"hit_rate_vectors": rate},
    }
    return {"vectors": vectors, "method": method, "quality": quality, "purity": {}}


def test_claims_hold_or_do_not_by_their_figures() -> None:
    rows = [
        row("rq_kmeans", 0.2, [1.0, 1.0], [0.97, 0.95]),
        row("rq_vae", 0.3, [1.0, 0.9], [0.9, 0.9]),
        row("balanced_rq_kmeans", 0.25, [1.0, 0.99], [0.99999, 0.9995]),
        row("rq_kmeans", 0.2, [1.0, 1.0], [0.97, 0.96], "aligned", 0.05),
    ]
    rows[0]["purity"] = {"a_label": [{"purity": 0.3, "chance": 0.21}]}
    held = {(claim["claim"], claim["vectors"]): (claim["here"], claim["figures"]) for claim in claims_of(rows)}
    assert held == {
        ("RQ-KMeans reconstructs better than RQ-VAE", "content"): (
            "holds",
            "0.2000 against 0.3000 of the variance lost",
        ),
        ("RQ-KMeans: utilisation 1.0 on every level", "content"): ("holds", "1.0000 / 1.0000"),
        ("RQ-KMeans: normalised entropy of 0.96 or more on every level", "content"): (
            "does not hold",
            "0.9700 / 0.9500",
        ),
        ("balanced RQ-KMeans: utilisation 1.0 on every level", "content"): ("does not hold", "1.0000 / 0.9900"),
        ("balanced RQ-KMeans: normalised entropy of 1.0 on every level", "content"): ("holds", "1.0000 / 0.9995"),
        ("RQ-KMeans: a label is 1.5 times as pure under first codes as when shuffled", "content"): (
            "does not hold",
            "0.300 against 0.210",
        ),
        ("RQ-KMeans: utilisation 1.0 on every level", "aligned"): ("holds", "1.0000 / 1.0000"),
        ("RQ-KMeans: normalised entropy of 0.96 or more on every level", "aligned"): ("holds", "0.9700 / 0.9600"),
        ("alignment raises the hit rate on held-out behavioural pairs", "aligned against content"): (
            "does not hold",
            "5.00% against 10.00%",
        ),
    }
