"""The benchmark of long histories: its rows are what the table shows, and what is left over is what it says."""

import numpy as np
import pytest

from benchmarks.lifelong import clustering, left, markdown
from onerec.run.provenance import machine


def test_what_clusters_leave_over() -> None:
    x_ND = np.array([[0.0], [2.0], [10.0], [12.0]], np.float32)
    assert left(x_ND, np.array([0, 0, 1, 1])) == pytest.approx(4 / 104)
    assert left(x_ND, np.arange(4)) == 0


def test_a_quick_run_has_a_row_per_case() -> None:
    figures, rows = clustering(quick=True)
    run = {"seconds": 1.0, "machine": machine(), "commit": "0" * 40, "dirty": False, "command": "made up", "seed": 0}
    table = markdown({"run": run, "figures": figures, "rows": rows}).splitlines()
    assert len(table) == 4 + len(rows)
    for row in rows:
        assert 0 < row["left"] < 1
        assert row["flat_left"] < 1
        assert row["rows"] <= figures["representatives"]
