"""What the terminal shows are the figures of results.json; it fits the terminal, and it says where to look next."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, TinyRun, results_of
from rich.console import Console

from benchmarks.recall import COMPARED, differences_of
from onerec.report.models import read_models
from onerec.report.terminal import print_comparison, print_details
from onerec.report.values import BREAKDOWNS, count, figure, with_interval


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    """Figures of a demo, with its nine models, as its run had them in results.json."""
    content = json.loads((ROOT / "benchmarks" / "results" / "demo-17.json").read_text(encoding="utf-8"))
    paired: dict[str, Any] = {}
    for metric in COMPARED:
        for pair, difference in differences_of(content, metric).items():
            paired.setdefault(" - ".join(pair), {})[metric] = difference
    return {
        **content,
        "models": {row["model"]: {**row, "own": row["model"].startswith("onerec")} for row in content["rows"]},
        "paired": paired,
    }


def printed(results: dict[str, Any], width: int) -> list[str]:
    console = Console(record=True, width=width)
    print_comparison(results, Path("runs/demo"), console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_every_cutoff_and_bucket_is_printed(tiny_run: TinyRun) -> None:
    results, console = results_of(tiny_run.folder), Console(record=True, width=100)
    print_details(results, console)
    shown = console.export_text()
    lines = [line.split() for line in shown.splitlines()]
    for model in results["models"].values():
        for measure in ("recall", "ndcg", "mrr"):
            cells = [figure(model["test"][f"{measure}@{k}"]["value"]) for k in (1, 5, 10, 20, 50)]
            assert [*model["label"].split(), *cells] in lines
        for breakdown in BREAKDOWNS:
            for row in model[breakdown]:
                assert f"{count(row['cases'])} cases" in shown
                assert figure(row["recall@10"]["value"]) in shown


def test_the_comparison_of_the_demo_fits_a_terminal(demo: dict[str, Any]) -> None:
    lines = printed(demo, 100)
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    for model in read_models(demo).models:
        (row,) = (line for line in lines if re.match(rf"{re.escape(model.label)} +\.\d{{4}} \(", line))
        recall = model.interval("recall@10")
        assert recall is not None and with_interval(recall) in row
        assert len(row.removeprefix(model.label).split()) == 8  # six columns; an interval and "s" stand apart
    assert lines[-3].endswith("(figures: runs/demo/results.json)")
    assert "onerec recommend runs/demo --user ID" in lines[-2], "committed figures show no users"


@pytest.mark.parametrize(("width", "columns"), [(80, 4), (72, 3), (40, 1)])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_figures(demo: dict[str, Any], width: int, columns: int) -> None:
    lines = printed(demo, width)
    head = next(line for line in lines if line.startswith("Model"))
    assert len(head.split()) == 1 + columns
    assert max(map(len, lines[: lines.index(head) + 3])) <= width
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(("width", "columns"), [(100, 3), (80, 2), (60, 1)])
def test_differences_keep_names_and_whole_figures(demo: dict[str, Any], width: int, columns: int) -> None:
    console = Console(record=True, width=width)
    print_details(demo, console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    rows = lines[lines.index("On the same users: OneRec minus") + 1 :]
    assert rows[0].split() == ["Model", "Recall@10", "NDCG@10", "P-Score@10"][: columns + 1]
    item_knn, popularity = (next(line for line in rows if line.startswith(name)) for name in ("Item-kNN", "Popularity"))
    assert item_knn.split()[1:5] == ["+.0042", "(−.0201", "to", "+.0265)"]
    assert popularity.split()[1:5] == ["+.1283*", "(+.0997", "to", "+.1570)"], "*: zero is outside"
    assert len(popularity.split()) == 1 + 4 * columns


def test_labels_are_no_markup(demo: dict[str, Any]) -> None:
    results = json.loads(json.dumps(demo))
    for model in results["models"].values():
        model["label"] = f"[red]{model['label']}[/x]"
    assert any("[red]SASRec[/x]" in line for line in printed(results, 140))
