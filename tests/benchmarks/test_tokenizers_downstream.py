"""The downstream table: what is made of finished cells, and what is claimed of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.semantic_ids.downstream_cell import DownstreamRow, settings_of
from benchmarks.semantic_ids.downstream_claims import claims_of
from benchmarks.study.cells import Cell
from benchmarks.study.runs import config_of
from benchmarks.tokenizers_downstream import all_rows, entries, markdown, outside, row_of

USERS = 400


def finished_cell(folder: Path, row: DownstreamRow, seed: int, hit_share: float, pair_hits: float) -> Cell:
    """A cell in which this share of the users find their target."""
    found = (np.random.default_rng(0).permutation(USERS) < hit_share * USERS).astype(float)  # the same users for all
    level = {"utilisation": 1.0, "entropy_share": 0.97 if row.method == "rq_kmeans" else 0.9}
    quality = {
        "reconstruction": {"share_of_variance": {"rq_kmeans": 0.1, "rq_vae": 0.2}.get(row.method, 1.0)},
        "levels": [level, level],
        "collisions_before": {"share_of_items": 0.2},
    }
    test = {"recall@10": {"value": float(found.mean())}, "id_recall@10": {"value": 0.5}}
    facts = {"seconds": {"training": 60.0}, "test": test, "valid": {"recall@10": 0.3, "ndcg@10": 0.2}}
    facts |= {"quality": quality, "pair_hit_rate": {"10": pair_hits, "50": 0.5}, "commit": "abc", "dirty": False}
    cell = Cell(row, seed, folder / f"{row.name}-{seed}")
    figures = {name: found for name in ("recall@10", "ndcg@10", "recall@50")}
    cell.write(facts, {"test": {"users": np.arange(USERS), **figures}})
    return cell


@pytest.fixture
def made(tmp_path: Path) -> list[dict[str, Any]]:
    shares = {
        row_of("amazon-beauty", "content", "random"): (0.2, 0.01),
        row_of("amazon-beauty", "content", "rq_kmeans"): (0.4, 0.05),
        row_of("amazon-beauty", "aligned", "rq_kmeans"): (0.5, 0.09),
        row_of("amazon-beauty", "content", "rq_vae"): (0.4, 0.05),
        row_of("amazon-beauty", "aligned", "rq_vae"): (0.4, 0.04),
    }
    finished = {row: {seed: finished_cell(tmp_path, row, seed, *of) for seed in (1, 2)} for row, of in shares.items()}
    return entries({**finished, row_of("amazon-beauty", "content", "opq"): {}})


def test_rows_hold_what_is_finished_and_compare_on_the_same_users(made: list[dict[str, Any]]) -> None:
    by_name = {row["name"]: row for row in made}
    assert "opq-content" not in by_name
    assert by_name["rq_kmeans-content"]["seeds"] == [1, 2]
    assert "difference" not in by_name["rq_kmeans-content"]
    assert by_name["random-content"]["difference"]["value"] == pytest.approx(-0.2)
    assert by_name["rq_kmeans-aligned"]["by_alignment"]["value"] == pytest.approx(0.1)
    assert by_name["rq_kmeans-aligned"]["by_alignment"]["low"] > 0
    assert by_name["rq_vae-aligned"]["by_alignment"]["value"] == pytest.approx(0.0)
    interval = by_name["rq_kmeans-content"]["recall@10"]
    assert interval["value"] == pytest.approx(0.4)
    assert interval["low"] < 0.4 < interval["high"]


def test_claims_say_what_the_figures_say(made: list[dict[str, Any]]) -> None:
    found = {one["claim"]: one["holds"] for one in claims_of(made)}

    def holds(*words: str) -> bool:
        (claim,) = [claim for claim in found if all(word in claim for word in words)]
        return bool(found[claim])

    assert holds("reconstructs better")
    assert holds("utilisation")
    assert holds("entropy", "rq_kmeans-content")
    assert holds("random IDs lose")
    assert holds("held-out pairs", "rq_kmeans-aligned")
    assert holds("downstream", "rq_kmeans-aligned")
    assert not holds("held-out pairs", "rq_vae-aligned")
    assert not holds("downstream", "rq_vae-aligned")


def test_the_markdown_names_every_row_and_where_it_comes_from(made: list[dict[str, Any]]) -> None:
    run = {"seed": [1, 2], "seconds": 60.0, "machine": {"cores": 2}, "commit": "abc", "dirty": False, "command": "x"}
    text = markdown({"run": run, "rows": made, "claims": claims_of(made)})
    assert text.count("`rq_kmeans`") == 2
    assert "+.1000" in text
    assert "seeds 1, 2; 1 min on 2 cores" in text


def test_a_rerun_outside_its_interval_is_named(made: list[dict[str, Any]]) -> None:
    assert outside(made, made) == []
    moved = [{**row, "recall@10": {"value": 0.9}} for row in made if row["name"] == "random-content"]
    assert "outside" in outside(moved, made)[0]
    assert "not on file" in outside(moved, [])[0]


def test_every_row_of_the_table_is_a_valid_config_with_a_name_of_its_own(tmp_path: Path) -> None:
    rows = all_rows()
    names = {(row.dataset, row.name) for row in rows}
    assert len(names) == len(rows)
    for row in rows:
        loaded = config_of(row.dataset, row.name, 5, settings_of(row, quick=True), tmp_path)
        assert (row.dataset, row.against) in names
        assert loaded.tokenizer.quantizer.method == row.method
        assert loaded.generator.item_head is not row.codes_only
        assert (loaded.tokenizer.alignment is not None) == row.vectors.startswith("aligned")
