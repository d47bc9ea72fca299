"""The speed benchmark of the tokenizer runs, marks quick figures, and names what it compares with."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tokenizer
from benchmarks.speed.tokenizer_rivals import inertia_of, variance_lost

missing = [package for module, package in tokenizer.NEEDED.items() if find_spec(module) is None]


@pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")
@pytest.mark.skipif("ONEREC_DATA" not in os.environ, reason="ONEREC_DATA names no folder of datasets")
def test_quick_run_writes_marked_figures_and_a_row_per_method(tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "tokenizer.json"
    parts = ["--only", "1m", "--only", "balanced", "--only", "memory"]
    monkeypatch.setattr(sys, "argv", ["tokenizer", "--quick", "--out", str(out), *parts])
    assert tokenizer.main() == 0
    written = json.loads(out.read_text())
    assert written["run"]["quick"] is True
    figures = written["figures"]
    for name in ("fit_speedup_vs_faiss_1m", "encode_speedup_vs_sklearn_1m", "balanced_speedup_vs_k_means_constrained"):
        assert 0 < figures[name]["min"] <= figures[name]["value"] <= figures[name]["max"]
    assert figures["error_ratio_vs_faiss_1m"]["value"] < 1.1
    # twice the setting: at this size what the libraries hold back is as large as what is bounded
    assert figures["peak_memory_mib_encode_rq_kmeans_32"] < 64
    methods = {(row["part"], row["method"]) for row in written["rows"]}
    assert {("1m", "ours"), ("1m", "faiss"), ("balanced", "k_means_constrained"), ("memory", "rq_kmeans")} <= methods
    assert "| 600 x 128, 40 equal clusters, 3 rounds | `k_means_constrained` |" in capsys.readouterr().out


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["tokenizer", "--out", str(tmp_path / "none.json")])
    monkeypatch.setattr(tokenizer, "NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(SystemExit):
        tokenizer.main()
    assert "no-such-package: install the extra `benchmarks`" in capsys.readouterr().err


def test_measures_of_error() -> None:
    x = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    mean = np.broadcast_to(x.mean(0), x.shape)
    assert variance_lost(x, mean) == pytest.approx(1.0, rel=1e-5)
    assert variance_lost(x, x) == 0
    assert inertia_of(x, np.zeros(500, dtype=int)) == pytest.approx(np.square(x - mean).sum(), rel=1e-4)


def test_mixed_rows_are_neither_real_ones_nor_far_from_them() -> None:
    x = np.eye(8, dtype=np.float32)
    mixed = tokenizer.mixed_rows(x, 1000)
    assert mixed.shape == (1000, 8)
    assert mixed.dtype == np.float32
    assert mixed.sum(1) == pytest.approx(np.ones(1000), abs=0.6)
    assert len(np.unique(mixed, axis=0)) == 1000
