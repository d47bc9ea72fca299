"""Tables between the markers of a page: written, checked, one of several, and refused with words where there is none."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import result_tables
from benchmarks.alignment.rows import MAIN, beauty_rows, kuairand_rows
from benchmarks.alignment.tables import PARTS, parts

FIGURE = {"value": 0.25, "low": 0.125, "high": 0.5}
RUN = {
    "name": "alignment",
    "seed": [17, 18],
    "seconds": 120,
    "machine": {"cores": 2},
    "commit": "c" * 40,
    "dirty": False,
}
END = "<!-- end results -->"


def results() -> dict[str, Any]:
    test = {"recall@10": FIGURE, "ndcg@10": FIGURE}
    beam = {"test": test, "difference": test, "by_seed": {"17": {"ndcg@10": 0.01}}}
    rows: list[dict[str, Any]] = [{"group": MAIN, "label": "hits", "seeds": [17, 18], "beam": beam}]
    rows.append({"reward": "play time", "exposures": "all", "count": 1000, "spearman": FIGURE})
    return {"run": RUN | {"command": "python -m x"}, "rows": rows}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page, and `benchmarks/results` as a folder of the test's."""
    (tmp_path / "alignment-x.json").write_text(json.dumps(results()))
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    monkeypatch.setattr(result_tables, "PAGES", [tmp_path / "page.md"])
    return tmp_path / "page.md"


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["x", *options])
    return result_tables.main()


def test_check_tells_a_page_that_differs_and_leaves_it(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = f"before\n<!-- results: alignment-x/objectives -->\nold\n{END}\nbetween\n"
    stale += f"<!-- results: alignment-x -->\n{END}\nafter\n"
    page.write_text(stale)
    assert run(monkeypatch, "--check") == 1
    assert page.read_text() == stale and "page.md" in capsys.readouterr().out
    assert run(monkeypatch) == 0
    written = page.read_text()
    made = parts(results())
    one, whole = f"\n{made['objectives']}\n{END}", "\n\n".join(made.values())
    assert written == (
        f"before\n<!-- results: alignment-x/objectives -->{one}\nbetween\n"
        f"<!-- results: alignment-x -->\n{whole}\n{END}\nafter\n"
    )
    assert run(monkeypatch, "--check") == 0
    # Figures that change make the page differ again.
    changed = results()
    changed["rows"][0]["beam"]["test"]["recall@10"]["value"] = 0.75
    (page.parent / "alignment-x.json").write_text(json.dumps(changed))
    assert run(monkeypatch, "--check") == 1


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("alignment-x/nothing", "has objectives, durations, origin"),
        ("missing/objectives", "missing.json: not there"),
        ("reward/objectives", "reward_model has one table"),
        ("seeds/objectives", "recall has one table"),
    ],
)
def test_tables_that_are_not_there(page: Path, marker: str, words: str) -> None:
    (page.parent / "reward.json").write_text('{"run": {"name": "reward_model"}}')
    (page.parent / "seeds.json").write_text('{"run": {"seed": 17}, "protocol": {}}')
    with pytest.raises(SystemExit, match=words):
        result_tables.with_tables(f"<!-- results: {marker} -->\n{END}")


def test_every_table_has_a_name_of_its_own() -> None:
    groups = {row.group for row in (*kuairand_rows(), *beauty_rows())}
    assert groups == PARTS.keys()
    others = ("pass-at-k", "gradients", "durations", "origin")
    names = [*PARTS.values(), *others]
    assert len(set(names)) == len(names)
    # A marker of each is one that is found.
    assert all(result_tables.BLOCK.fullmatch(f"<!-- results: a/{name} -->\n{END}") for name in names)
