"""results.json has the one shape that reports, tables and checks rely on, and says where its figures come from."""

import math
from typing import Any

import numpy as np
import pytest
from command_line import TinyRun, results_of

from onerec.data.contract import read_dataset

CUTOFFS = (1, 5, 10, 20, 50)
MODELS = ["onerec", "onerec_selection", "sasrec", "item_knn", "content_knn", "popularity"]


@pytest.fixture(scope="module")
def results(tiny_run: TinyRun) -> dict[str, Any]:
    return results_of(tiny_run.folder)


def is_interval(figure: object) -> bool:
    return (
        isinstance(figure, dict)
        and set(figure) == {"value", "low", "high"}
        and all(isinstance(value, float) and math.isfinite(value) for value in figure.values())
        and figure["low"] <= figure["value"] <= figure["high"]
    )


def test_the_run_can_be_repeated_from_what_it_says(results: dict[str, Any], tiny_run: TinyRun) -> None:
    run = results["run"]
    kinds = dict.fromkeys(("name", "command", "commit", "started"), str) | dict.fromkeys(
        ("config", "versions", "machine"), dict
    )
    kinds |= {"dirty": bool, "seed": int, "seconds": float}
    assert {key: type(run[key]) for key in kinds} == kinds
    assert run["name"] == "tiny"
    assert run["command"].startswith("onerec run ")
    assert run["config"]["train"]["epochs"] == 2
    assert run["seed"] == run["config"]["seed"] == 17
    assert {"python", "torch", "accelerate", "polars", "numpy"} <= set(run["versions"])
    assert run["machine"]["cores"] >= 1
    assert run["seconds"] > 0
    assert set(run["machine"]) == {"processor", "cores", "gpu", "system"}  # nothing that names a host or a person


def test_the_dataset_is_identified(results: dict[str, Any], tiny_run: TinyRun) -> None:
    dataset = read_dataset(tiny_run.dataset)
    facts = results["dataset"]
    assert (facts["users"], facts["items"], facts["events"]) == (150, 60, len(dataset.events))
    assert facts["sha256"] == dataset.sha256
    assert facts["name"] == dataset.spec.name


def test_every_model_has_every_figure_with_its_interval(results: dict[str, Any]) -> None:
    assert list(results["models"]) == MODELS
    expected = {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in CUTOFFS}
    for name, model in results["models"].items():
        assert type(model["parameters"]) is int
        assert (model["parameters"] > 0) == (name in ("onerec", "onerec_selection", "sasrec"))
        assert type(model["train_seconds"]) is float
        assert model["train_seconds"] > 0 or name == "popularity"
        for part in ("valid", "test"):
            figures = dict(model[part])
            assert figures.pop("cases") == 150
            for k in (10, 50):
                assert 0 < figures.pop(f"coverage@{k}") <= 1
            wanted = expected | {f"id_recall@{k}" for k in CUTOFFS} if name.startswith("onerec") else expected
            assert set(figures) == wanted
            assert all(is_interval(figure) for figure in figures.values())


def test_figures_agree_with_each_other(results: dict[str, Any]) -> None:
    for model in results["models"].values():
        test = {name: figure["value"] for name, figure in model["test"].items() if isinstance(figure, dict)}
        assert [test[f"recall@{k}"] for k in CUTOFFS] == sorted(test[f"recall@{k}"] for k in CUTOFFS)
        assert test["recall@1"] == test["ndcg@1"] == test["mrr@1"]
        assert all(test[f"mrr@{k}"] <= test[f"ndcg@{k}"] <= test[f"recall@{k}"] for k in CUTOFFS)
        for rows in (model["by_popularity"], model["by_history_length"], model["by_cold"]):
            assert sum(row["cases"] for row in rows) == model["test"]["cases"]
            mean = sum(row["recall@10"]["value"] * row["cases"] for row in rows) / model["test"]["cases"]
            assert mean == pytest.approx(test["recall@10"])
    values = {name: model["test"]["recall@10"]["value"] for name, model in results["models"].items()}
    # Nine of ten events follow a chain: a pipeline that mixed up its histories or targets could not find it.
    assert values["item_knn"] > max(0.7, values["popularity"] + 0.4)
    generator = results["models"]["onerec"]["test"]
    # A hit on the item is a hit on its codes, never the other way round.
    assert all(generator[f"id_recall@{k}"]["value"] >= generator[f"recall@{k}"]["value"] for k in CUTOFFS)


def test_comparisons_are_paired_differences_of_the_same_figures(results: dict[str, Any]) -> None:
    others = MODELS[2:]
    compared = [("onerec_selection", other) for other in ("onerec", *others)] + [("onerec", other) for other in others]
    assert list(results["paired"]) == [f"{own} - {other}" for own, other in compared]
    for (own, other), figures in zip(compared, results["paired"].values(), strict=True):
        assert set(figures) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in CUTOFFS}
        assert all(is_interval(figure) for figure in figures.values())
        for name, figure in figures.items():
            ours, theirs = (results["models"][model]["test"][name]["value"] for model in (own, other))
            assert figure["value"] == pytest.approx(ours - theirs)


def test_lists_hold_unseen_items_of_the_catalogue_each_once(tiny_run: TinyRun) -> None:
    for model in MODELS:
        with np.load(tiny_run.folder / "lists" / model / "lists.npz") as lists:
            items_CK, scores_CK = lists["test"], lists["test_scores"]
        assert items_CK.shape == (150, 50)
        assert ((items_CK >= -1) & (items_CK < 60)).all()
        for row_K, scores_K in zip(items_CK, scores_CK, strict=True):
            real = row_K[row_K >= 0]
            assert len(real) == len(set(real.tolist()))
            assert (row_K[: len(real)] >= 0).all()  # the end of a list is its only empty part
            assert (np.diff(scores_K[: len(real)]) <= 1e-6).all()


def test_what_selection_is_made_of_is_on_record(results: dict[str, Any]) -> None:
    facts = results["models"]["onerec_selection"]["selection"]
    assert facts["cases"] == 150
    assert 0 < facts["proposed"] <= 1
    assert next(iter(facts["weights"])) == "log_probability"
    # nine of ten events follow a chain
    assert max(facts["weights"][name] for name in ("co_occurrence", "co_occurrence_root", "directly_after")) > 0
    assert facts["pays"] is True
    for order in ("generated", "selected"):
        assert 0 <= facts[order]["ndcg@10"] <= facts[order]["recall@10"] <= facts["proposed"]
    assert facts["selected"]["ndcg@10"] > facts["generated"]["ndcg@10"]


def test_examples_show_what_the_lists_say(results: dict[str, Any]) -> None:
    assert len(results["examples"]) == 6
    for example in results["examples"]:
        assert set(example["recommendations"]) == set(MODELS)
        history = {item["item"] for item in example["history"]}
        for shown in example["recommendations"].values():
            assert len(shown) == 10
            assert not history & {item["item"] for item in shown}
            assert [item["hit"] for item in shown] == [item["item"] == example["target"]["item"] for item in shown]


def test_notes_tell_what_a_reader_must_know(results: dict[str, Any]) -> None:
    notes = " ".join(results["notes"])
    said = ["Validation chose", "training events only", "percentile bootstraps over users", "not recommended again"]
    assert [words for words in said if words not in notes] == []
