"""The downstream table: what is made of finished cells, and that two processes never work on one cell."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import claim
from benchmarks.downstream_cells import Row
from benchmarks.downstream_table import claims, markdown, outside, table
from benchmarks.tokenizers_downstream import beauty_rows, kuairand_rows, whole_generator_rows
from onerec.run.config import load_config

USERS = 400
ROOT = Path(__file__).parents[2]


def write_cell(cells: Path, row: Row, seed: int, hit_share: float, pair_hits: float) -> None:
    """A finished cell in which this share of the targets is found, at rank 1 to 10."""
    rng = np.random.default_rng([seed, len(row.name)])
    found = np.random.default_rng(0).permutation(USERS) < hit_share * USERS  # the same users for all: paired
    ranks = np.where(found, rng.integers(1, 11, size=USERS), 0).astype(np.int16)
    level = {"utilisation": 1.0, "entropy_share": 0.97 if row.method == "rq_kmeans" else 0.9}
    lost = {"rq_kmeans": 0.1, "rq_vae": 0.2}.get(row.method, 1.0)
    quality = {
        "reconstruction": {"share_of_variance": lost},
        "levels": [level, level],
        "collisions_before": {"share_of_items": 0.2},
    }
    test = {"recall@10": {"value": float((ranks > 0).mean())}, "id_recall@10": {"value": 0.5}}
    cell = {"seed": seed, "seconds": {"total": 60.0}, "test": test, "valid": {"recall@10": 0.3, "ndcg@10": 0.2}}
    cell |= {"quality": quality, "pair_hit_rate": {"10": pair_hits, "50": 0.5}, "commit": "abc", "dirty": False}
    folder = cells / row.dataset / f"{row.name}-{seed}"
    folder.mkdir(parents=True)
    np.save(folder / "ranks.npy", ranks)
    (folder / "cell.json").write_text(json.dumps(cell))


@pytest.fixture
def made(tmp_path: Path) -> list[dict[str, Any]]:
    rows = {
        Row("amazon-beauty", "content", "random"): (0.2, 0.01),
        Row("amazon-beauty", "content", "rq_kmeans"): (0.4, 0.05),
        Row("amazon-beauty", "aligned", "rq_kmeans"): (0.5, 0.09),
        Row("amazon-beauty", "content", "rq_vae"): (0.4, 0.05),
        Row("amazon-beauty", "aligned", "rq_vae"): (0.4, 0.04),
    }
    for row, (hits, pairs) in rows.items():
        for seed in (1, 2):
            write_cell(tmp_path, row, seed, hits, pairs)
    return table([*rows, Row("amazon-beauty", "content", "opq")], [1, 2, 3], tmp_path)


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
    found = {one["claim"]: one["holds"] for one in claims(made)}

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
    text = markdown({"run": run, "rows": made, "claims": claims(made)})
    assert text.count("`rq_kmeans`") == 2
    assert "+.1000" in text
    assert "seeds 1, 2; 1 min on 2 cores" in text


def test_a_rerun_outside_its_interval_is_named(made: list[dict[str, Any]]) -> None:
    assert outside(made, made) == []
    moved = [{**row, "recall@10": {"value": 0.9}} for row in made if row["name"] == "random-content"]
    assert "outside" in outside(moved, made)[0]
    assert "not on file" in outside(moved, [])[0]


def test_a_cell_belongs_to_one_living_process(tmp_path: Path) -> None:
    assert claim(tmp_path / "cell")
    assert not claim(tmp_path / "cell")  # this process holds it, and lives
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "cell" / ".claim").write_text(str(dead.pid))
    assert claim(tmp_path / "cell")
    assert (tmp_path / "cell" / ".claim").read_text() == str(os.getpid())
    (tmp_path / "cell" / "cell.json").write_text("{}")
    assert not claim(tmp_path / "cell")


def test_every_row_of_the_table_is_a_valid_config_with_a_name_of_its_own(tmp_path: Path) -> None:
    rows = [*beauty_rows(), *kuairand_rows(), *whole_generator_rows()]
    assert len({(row.dataset, row.name) for row in rows}) == len(rows)
    for row in rows:
        config = {"amazon-beauty": "beauty.yaml", "kuairand-pure": "kuairand.yaml"}[row.dataset]
        loaded = load_config(ROOT / "configs" / config, row.overrides(5, tmp_path, quick=True))
        assert loaded.tokenizer.quantizer.method == row.method
        assert loaded.generator.item_head is not row.codes_only
        assert (loaded.tokenizer.alignment is not None) == row.vectors.startswith("aligned")
