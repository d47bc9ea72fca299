"""Logs of other shapes: no item content at all, splits by time and by period, signals that events must carry."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import GENERATOR_ONLY, TinyRun, configured, opened, results_of

from onerec.cli import main
from onerec.data.contract import DatasetSpec, read_dataset, write_dataset
from tokenizer.item_encoder import ItemEncoder
from tokenizer.semantic_ids import SemanticIds

ONE_EPOCH = (*GENERATOR_ONLY, "train.epochs=1", "baselines.popularity=true", "dataset.targets_per_user=all")


@pytest.fixture(scope="module")
def signalled(chain_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with times, periods, a signal that two of three events carry, and a category per item."""
    folder = tmp_path_factory.mktemp("signalled")
    events = pl.read_csv(chain_csv)
    share = pl.int_range(pl.len()).over("user") / pl.len().over("user")
    events = events.with_columns(
        liked=(pl.int_range(pl.len()) % 3 != 0).cast(pl.Int8),
        period=pl.when(share < 0.4)
        .then(pl.lit("history"))
        .when(share < 0.6)
        .then(pl.lit("train"))
        .when(share < 0.8)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test")),
    )
    items = pl.DataFrame({"item": range(60), "kind": [f"k{item // 12}" for item in range(60)]})
    spec = DatasetSpec(
        name="signalled",
        events={"user": "user", "item": "item", "time": "time", "period": "period", "signals": ["liked"]},  # type: ignore[arg-type]
        items={"id": "item", "categorical": ["kind"]},  # type: ignore[arg-type]
        split="by_period",
    )
    write_dataset(folder, spec, events, items)
    return folder


def run_results(name: str, dataset: Path, runs: Path, *overrides: str) -> dict[str, Any]:
    """What `onerec run` with one epoch measures."""
    assert main(["run", *configured(name, dataset, *ONE_EPOCH, *overrides), "--runs", str(runs)]) == 0
    return results_of(runs / name)


def vectors_without_behaviour(dataset: Path, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    run = opened("x", dataset, folder, "tokenizer.collaborative.weight=0")
    encoder = ItemEncoder().fit(run.dataset.item_table, run.training, run.config.tokenizer, run.config.seed)
    return encoder.vectors_ND, encoder.source


def test_ids_come_from_co_occurrence_alone_where_items_have_no_columns(tiny_run: TinyRun) -> None:
    assert read_dataset(tiny_run.dataset).items.columns == ["item"]
    ids = SemanticIds.load(tiny_run.folder / "semantic_ids" / "ids")
    assert ids.config["inputs"]["columns"] == []
    assert ids.config["inputs"]["collaborative"]["dimensions"] == 64
    assert len(np.unique(ids.codes_NL, axis=0)) == 60
    # Neighbours in the chain meet in the same histories, so they share a first code far more often than any two items.
    order = np.argsort(ids.item_ids.cast(pl.Int64).to_numpy())
    first = ids.codes_NL[order, 0]
    by_chance = np.mean(first[:, None] == first[None, :])
    assert np.mean(first[1:] == first[:-1]) > 2 * by_chance


def test_without_content_the_weight_of_co_occurrence_cannot_be_zero(chain_dataset: Path, tmp_path: Path) -> None:
    """Where it is all there is, weight 0 would leave nothing: it is then used with weight 1."""
    vectors_ND, source = vectors_without_behaviour(chain_dataset, tmp_path)
    assert vectors_ND.any(axis=1).all()
    assert "collaborative" in source


def test_content_stands_alone_with_collaborative_weight_zero(signalled: Path, tmp_path: Path) -> None:
    vectors_ND, source = vectors_without_behaviour(signalled, tmp_path)
    assert source["columns"] == ["kind"]
    assert "collaborative" not in source
    kinds = np.arange(60) // 12
    alike = np.abs(vectors_ND[:, None] - vectors_ND[None]).sum(axis=2) < 1e-6
    assert np.array_equal(alike, kinds[:, None] == kinds[None])


def test_a_run_split_by_period_counts_only_positive_events(signalled: Path, tmp_path: Path) -> None:
    results = run_results("periods", signalled, tmp_path, "dataset.positive=liked")
    liked = read_dataset(signalled).events.filter(pl.col("liked") == 1)
    training = liked.filter(pl.col("period").is_in(["history", "train"]))
    protocol = results["protocol"]
    assert (protocol["split"], protocol["positive"]) == ("by_period", "liked")
    assert protocol["training_events"] == len(training)
    for part in ("valid", "test"):
        asked = liked.filter(pl.col("period") == part)
        cases = results["models"]["onerec"][part]["cases"]
        assert 0 < cases <= len(asked)
        if part == "test":
            assert cases + protocol["dropped_cases"] == len(asked)


def test_a_run_split_by_time_trains_on_what_came_first(signalled: Path, tmp_path: Path) -> None:
    shares = ["dataset.split=by_time", "dataset.train_share=0.7", "dataset.valid_share=0.15"]
    results = run_results("times", signalled, tmp_path, *shares)
    events = read_dataset(signalled).events
    assert results["protocol"]["split"] == "by_time"
    # Equal times stay together, so the share is met to within the events of one moment.
    assert results["protocol"]["training_events"] == pytest.approx(0.7 * len(events), abs=5)
    run = opened("times", signalled, tmp_path, *ONE_EPOCH, *shares)
    order = events["user"].unique(maintain_order=True).to_list()
    flat = np.concatenate([events.filter(pl.col("user") == user)["time"].to_numpy() for user in order])
    part = run.sequences.part
    assert flat[part == 0].max() < flat[part == 1].min() <= flat[part == 1].max() < flat[part == 2].min()


def test_a_bidirectional_context_and_the_full_softmax_run_too(signalled: Path, tmp_path: Path) -> None:
    choices = ["generator.context=bidirectional", "generator.own_embedding=false"]
    choices += [
        "generator.softmax=full",
        "generator.item_head=false",
        "tokenizer.quantizer.unique=append_code",
        "train.accumulation=2",
    ]
    results = run_results("choices", signalled, tmp_path, *choices)
    assert len(results["semantic_ids"]["level_sizes"]) == 3
    assert results["models"]["onerec"]["test"]["recall@50"]["value"] > 0
