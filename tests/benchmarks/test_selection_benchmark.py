"""The ablation of selection: its rows are what they say, on a finished run."""

import numpy as np
from command_line import TinyRun

from benchmarks.selection import GROUPS, markdown, measure
from onerec.run.opening import reopen_run


def test_rows_leave_out_and_single_out_every_kind_of_feature(tiny_run: TinyRun) -> None:
    run = reopen_run(tiny_run.folder, [])
    rows = {row["features"]: row for row in measure(run, users=100)}
    # the tiny items have no content, so nothing speaks for new ones either
    kinds = [kind for kind in GROUPS if kind not in ("likeness of content", "that an item is new")]
    expected = ["all", *(f"without {kind}" for kind in kinds), *(f"the generator and {kind}" for kind in kinds)]
    assert list(rows) == [*expected, "the generator's order"]
    assert rows["all"]["users"] == 100
    assert rows["all"]["against_all"]["ndcg@10"]["value"] == 0
    # nine of ten events follow a chain, which counts show at once
    assert (
        rows["the generator and co-occurrence"]["ndcg@10"]["value"] > rows["the generator's order"]["ndcg@10"]["value"]
    )
    assert rows["without co-occurrence"]["against_all"]["ndcg@10"]["value"] < 0
    for row in rows.values():
        assert 0 <= row["ndcg@10"]["low"] <= row["ndcg@10"]["value"] <= row["recall@10"]["value"] <= 1
        difference = row["ndcg@10"]["value"] - rows["all"]["ndcg@10"]["value"]
        assert np.isclose(row["against_all"]["ndcg@10"]["value"], difference)
    run_facts = {"seconds": 60, "machine": {"cores": 2}, "commit": "abc", "dirty": False, "command": "x", "seed": 1}
    table = markdown({"run": run_facts, "rows": list(rows.values())})
    assert all(f"| {what} |" in table for what in rows)
