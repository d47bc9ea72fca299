"""What validation and test users do next never reaches the tokenizer, the neighbours or the weights."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import opened, trained

from onerec.data.contract import Dataset, read_dataset, write_dataset
from onerec.data.requests import Requests
from onerec.data.split import TRAIN
from onerec.run.run import Run
from onerec.run.stages.selection import load_selection
from onerec.run.stages.semantic_ids import semantic_ids
from tokenizer.behaviour.alignment import AlignmentSpec, pairs_from_behaviour
from tokenizer.item_encoder import ItemEncoder


def with_other_targets(dataset: Dataset, folder: Path, valid_shift: int = 7) -> Dataset:
    """The same log, except that each user's last two events are others: items 7 (or `valid_shift`) and 11 numbers on."""
    position = pl.int_range(pl.len()).over("user")
    back = pl.len().over("user") - position
    shift = pl.when(back == 2).then(valid_shift).when(back == 1).then(11).otherwise(0)
    events = dataset.events.with_columns(item=(pl.col("item") + shift) % 60)
    return write_dataset(folder, dataset.spec, events, dataset.items)


# One epoch, one validation: with more, validation may rightly choose the weights of another one.
ONE_EPOCH = ("train.epochs=1", "baselines.sasrec.train.epochs=1")


@pytest.fixture(scope="module")
def runs(chain_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("leakage")
    with_other_targets(read_dataset(chain_dataset), folder / "other")
    logs = {"as_logged": chain_dataset, "other_targets": folder / "other"}
    first, second = (trained(name, dataset, folder, *ONE_EPOCH) for name, dataset in logs.items())
    return first, second


def test_the_targets_really_differ(runs: tuple[Run, Run]) -> None:
    for part in ("valid", "test"):
        first, second = (run.requests(part) for run in runs)
        assert (first.targets_C != second.targets_C).all()
    held_out = runs[0].sequences.part != TRAIN
    assert held_out.sum() == 2 * 150


def test_semantic_ids_do_not_see_held_out_events(runs: tuple[Run, Run]) -> None:
    first, second = (semantic_ids(run) for run in runs)
    assert np.array_equal(first.codes_NL, second.codes_NL)
    assert np.array_equal(first.quantizer_codes_NQ, second.quantizer_codes_NQ)
    assert first.config["inputs"]["sha256"] == second.config["inputs"]["sha256"]


@pytest.fixture(scope="module")
def described_runs(chain_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same logs with content to align: as logged, with other targets, and with another training event."""
    folder = tmp_path_factory.mktemp("described")
    logged = read_dataset(chain_dataset)
    back = pl.len().over("user") - pl.int_range(pl.len()).over("user")
    logs = {
        "as_logged": logged.events,
        "other_targets": with_other_targets(logged, folder / "bare").events,
        "other_training": logged.events.with_columns(
            item=pl.when(back == 3).then((pl.col("item") + 5) % 60).otherwise(pl.col("item"))
        ),
    }
    columns = logged.spec.items.model_copy(update={"categorical": ["kind"]})
    spec = logged.spec.model_copy(update={"items": columns})
    items = logged.items.with_columns(kind=pl.format("k{}", pl.col("item").cast(pl.Int64) // 6))
    runs = {}
    for name, events in logs.items():
        write_dataset(folder / name, spec, events, items)
        runs[name] = opened(name, folder / name, folder / "runs")
    return runs


@pytest.mark.parametrize("kind", ["swing", "co_occurrence", "user_to_item"])
def test_pairs_do_not_come_from_held_out_events(described_runs: dict[str, Run], kind: str) -> None:
    spec = AlignmentSpec(pairs=[kind])  # type: ignore[list-item]
    pairs = {}
    for name, run in described_runs.items():
        made = pairs_from_behaviour(spec, *run.training, np.eye(60, dtype=np.float32)[:, ::2] + 0.1)
        pairs[name] = (made.pairs_P2.tobytes(), made.weight_P.tobytes())
    assert pairs["as_logged"] == pairs["other_targets"]
    assert pairs["as_logged"] != pairs["other_training"]


def test_aligned_vectors_do_not_see_held_out_events(described_runs: dict[str, Run]) -> None:
    alignment = AlignmentSpec(queries=2, width=16, layers=1, steps=30, batch_size=64)
    vectors = {}
    for name, run in described_runs.items():
        section = run.config.tokenizer.model_copy(update={"alignment": alignment})
        encoder = ItemEncoder().fit(run.dataset.item_table, run.training, section, seed=5)
        vectors[name] = (encoder.vectors_ND.tobytes(), encoder.behaviour_ND.tobytes())
    assert vectors["as_logged"] == vectors["other_targets"]
    assert all(one != other for one, other in zip(vectors["as_logged"], vectors["other_training"], strict=True))


def test_weights_do_not_depend_on_held_out_events(runs: tuple[Run, Run]) -> None:
    for weights in ("generator/model/model.safetensors", "baselines/sasrec/best.safetensors"):
        first, second = ((run.folder / weights).read_bytes() for run in runs)
        assert first == second, weights


def test_selection_is_fitted_on_validation_and_blind_to_the_test(runs: tuple[Run, Run], tmp_path: Path) -> None:
    logged, other_targets = runs
    with_other_targets(logged.dataset, tmp_path / "data", valid_shift=0)
    other_test = trained("other_test", tmp_path / "data", tmp_path, *ONE_EPOCH)
    weights = [(run.folder / "selection" / "scorer.json").read_bytes() for run in (logged, other_test, other_targets)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_features_of_candidates_do_not_count_held_out_events(runs: tuple[Run, Run]) -> None:
    first, second = (load_selection(run).reranker.features for run in runs)
    assert (first.co_occurrence.similarity_NN != second.co_occurrence.similarity_NN).nnz == 0
    assert all(np.array_equal(first.vectors[name], second.vectors[name]) for name in first.vectors)


def test_baselines_do_not_count_held_out_events(runs: tuple[Run, Run]) -> None:
    """Asked about the same histories, the neighbours and the most popular items of both runs are the same."""
    asked = Requests.of_histories(np.arange(60, dtype=np.int32), np.arange(61))
    for name in ("item_knn", "popularity"):
        first, second = (run.models()[name].load().recommend(asked, 20, exclude_seen=True) for run in runs)
        assert np.array_equal(first.items_CK, second.items_CK)
        assert np.array_equal(first.scores_CK, second.scores_CK)


def test_the_validation_event_is_history_of_the_test(runs: tuple[Run, Run]) -> None:
    run = runs[0]
    valid, test = run.requests("valid"), run.requests("test")
    last = test.history_items[test.history_offsets[1:] - 1]
    assert np.array_equal(last, valid.targets_C)
