"""The README's compact table holds the figures of the files that it is made from."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import result_tables
from benchmarks.output.summary import FILES, MODELS, PAIRS


def results(recall: float) -> dict[str, Any]:
    test = {"recall@10": {"value": recall}, "ndcg@10": {"value": recall / 2}}
    difference = {"value": recall / 4, "low": -recall / 8, "high": recall}
    return {
        "rows": [{"model": model, "label": model.upper(), "test": test} for model in MODELS],
        "figures": {f"{first}_minus_{second}_recall@10": difference for first, second in PAIRS},
        "dataset": {"users": 1234, "items": 56, "events": 7890},
    }


def test_each_column_is_of_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in enumerate(FILES):
        (tmp_path / f"{name}.json").write_text(json.dumps(results(0.1 * (place + 1))))
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    text = result_tables.with_tables("<!-- results: summary -->\nold\n<!-- end results -->")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[1:-1]]
    assert rows[0][1:] == list(FILES.values()) and "old" not in text
    assert rows[2] == ["ONEREC", ".1000 / .0500", ".2000 / .1000", ".3000 / .1500"]
    assert len(rows) == 2 + len(MODELS) + len(PAIRS) + 1
    differences = next(row for row in rows if row[0] == "Recall@10: ONEREC − SASREC")
    assert differences[2] == "+.0500 (−.0250 to +.2000)"
    assert rows[-1][1:] == ["1,234; 56; 7,890"] * 3
