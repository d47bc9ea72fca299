"""Tables of generators cell by cell: equal sizes, equal data, nothing done twice, counts that add up."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import TinyRun

from benchmarks import decoders, scaling
from benchmarks.generators import counted_cell
from benchmarks.generators.counted_cell import some_windows
from benchmarks.speed.random_models import random_generator
from benchmarks.study import runs
from onerec.data.windows import every_position_windows
from onerec.model.counting import size_without_tables


@pytest.fixture
def tiny_data(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The tiny log as a dataset of the benchmarks; what they write stays in a folder of its own."""
    name = tiny_run.dataset.name
    monkeypatch.setenv("ONEREC_DATA", str(tiny_run.dataset.parent))
    monkeypatch.setitem(runs.CONFIG_FILES, name, "own.yaml")
    monkeypatch.setattr(counted_cell, "DATASETS", {name: ("tokenizer.quantizer.level_sizes=[8,8]",)})
    monkeypatch.setattr(scaling, "DATASETS", {name: ()})
    monkeypatch.setattr(scaling, "BATCH_SIZES", {name: 16})
    monkeypatch.setattr(decoders, "BUDGETS", {(name, mode): () for mode in decoders.MODES})
    monkeypatch.chdir(tmp_path)
    return name


def run_main(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--quick", "--cells", "cells", "--out", "out.json"])
    assert module.main() == 0
    content: dict[str, Any] = json.loads(Path("out.json").read_text())
    return content


def refuse(*_: object) -> None:
    raise AssertionError("a finished cell was run again")


@pytest.mark.parametrize("size", decoders.SIZES)
def test_both_decoders_of_a_size_have_equal_parameters(size: str) -> None:
    counts = [
        size_without_tables(random_generator(900, (16,) * 3, item_head=False, **decoders.SIZES[size].settings(name)))
        for name in decoders.DECODERS
    ]
    assert abs(counts[1] / counts[0] - 1) < 0.01


def test_chosen_windows_hold_the_targets_asked_for_and_depend_on_the_seed_alone() -> None:
    lengths = np.random.default_rng(0).integers(2, 30, size=200)
    windows = every_position_windows(np.arange(lengths.sum()), np.cumsum([0, *lengths]), 10)
    some = some_windows(windows, 500, seed=3)
    assert 500 <= some.target_counts.sum() < 510
    assert np.array_equal(some.stops, some_windows(windows, 500, seed=3).stops)
    assert not np.array_equal(some.stops, some_windows(windows, 500, seed=4).stops)
    assert len(some_windows(windows, 10**9, seed=3)) == len(windows)


def test_decoders_are_compared_on_equal_terms_and_once(tiny_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--sizes", "small", "--seeds", "1")
    results = run_main(decoders, monkeypatch, *asked)
    trained = [row for row in results["rows"] if row["mode"] != "contexts"]
    assert [row["mode"] for row in trained] == ["one", "all"]
    for row in trained:
        ours, theirs = row["lazy"], row["encoder_decoder"]
        assert row["seeds"] == [1]
        assert row["loss_difference"]["value"] == pytest.approx(ours["loss"] - theirs["loss"])
        assert row["loss_difference"]["low"] <= row["loss_difference"]["value"] <= row["loss_difference"]["high"]
        for one in (ours, theirs):
            parts = {k: v for k, v in one["parameters"].items() if k not in ("total", "without_tables")}
            assert sum(parts.values()) == one["parameters"]["total"]
            assert one["parameters"]["without_tables"] == one["parameters"]["total"] - parts["embeddings"]
            assert sum(one["flops_per_target_by_part"].values()) == pytest.approx(one["flops_per_target"], rel=0.2)
        assert ours["flops_per_target_by_part"]["encoder"] == 0 < theirs["flops_per_target_by_part"]["encoder"]
        assert 1 < np.log(60) * 0.5 < ours["loss"] < 2 * np.log(60)  # sixty items
    one, every = trained
    assert one["flops_ratio"] > 1.5 > every["flops_ratio"]  # what a context costs is shared by its targets
    lengths = [row for row in results["rows"] if row["mode"] == "contexts"]
    assert lengths[0]["flops_ratio"] < lengths[1]["flops_ratio"]
    text = decoders.markdown(results)
    assert text.count(f"| {tiny_data}, ") == 2
    monkeypatch.setattr(decoders, "measure", refuse)
    monkeypatch.setattr(decoders, "measure_contexts", refuse)
    assert run_main(decoders, monkeypatch, *asked)["rows"] == results["rows"]


def test_sizes_are_fitted_once_and_grow(tiny_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--dataset", tiny_data, "--seeds", "1", "--rates", "0.01")
    results = run_main(scaling, monkeypatch, *asked)
    rows, fits = results["rows"], results["fits"]
    for key in ("training_flops", "width"):
        assert [row[key] for row in rows] == sorted({row[key] for row in rows})
    sizes = [row["parameters"]["without_tables"] for row in rows]
    assert sizes == sorted(set(sizes))
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] / rates[-1] == pytest.approx((sizes[-1] / sizes[0]) ** 0.5)
    # A hundredth of the rate learns next to nothing in these few steps.
    assert all(row["loss_at_other_rates"]["0.01"] != row["loss"]["value"] for row in rows)
    for law in fits.values():
        residuals = np.array(law["residuals"])
        assert np.allclose(np.array(law["fitted"]) + residuals, [row["loss"]["value"] for row in rows])
        assert law["irreducible"]["low"] >= 0
    assert f"{tiny_data}, encoder_decoder" in scaling.markdown(results)
    monkeypatch.setattr(scaling, "measure", refuse)
    assert run_main(scaling, monkeypatch, *asked, "--finished")["fits"] == fits
