"""The report page: what it shows, what it leaves out, and that nothing in the data can break it."""

import math
import os
import re
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pages import HOSTILE, Outline, charts_of, complete_results, page_of, section_of

from onerec.errors import UserError
from onerec.report.report import write_report
from onerec.report.values import figure

SECTIONS = ("comparison", "costs", "breakdown", "training", "codebook", "users", "notes", "run")


@pytest.fixture
def results() -> dict[str, Any]:
    return complete_results()


def sections_of(page: str) -> list[str]:
    return [name for name in Outline(page).ids if name in SECTIONS]


def test_a_complete_run_shows_every_section_and_its_numbers(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    assert sections_of(page) == list(SECTIONS)
    outline = Outline(page)
    assert set(outline.links) == {f"#{name}" for name in SECTIONS}
    for model in results["models"].values():
        for part in ("test", "valid"):
            for interval in (model[part][f"{m}@{k}"] for m in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20, 50)):
                ends = f"{figure(interval['low'])}–{figure(interval['high'])}"
                assert f"{figure(interval['value'])} {ends}" in outline.text
    texts = [
        ".1234",
        "31.2 %",
        "123,456",
        "1 min 23 s",
        "1,234",
        "100,000",
        "3f9a1c7e5b2d4f60",
        "7 min 13 s",
        "3 May 2026",
    ]
    texts += [
        "with uncommitted changes",
        "learning_rate: 0.001",
        "About Counts.",
        "One seed only.",
        "23.7 %",
        "then came",
    ]
    texts += ["largest group has 5 items", "User 196: 1 of 2 lists hold Fargo (1996)"]
    texts += ["best validation NDCG@10 .0300 at step 150"]
    assert [text for text in texts if text not in outline.text] == []
    # 2 figures, 2 differences to the generator and 2 to a baseline, 2 breakdowns, 3 curves for each of two models, 2 levels.
    assert len(charts_of(page)) == 16
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-hidden") == "true" or (root.get("role") == "img" and root.get("aria-label"))
        assert not re.search(r"nan|inf\b", drawing.split(">", 1)[1])
    tables = re.findall(r"<table>.*?</table>", page, re.S)
    assert len(tables) == 7  # summary, test, validation, pairs, costs, two breakdowns
    for table in tables:
        assert "<caption>" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))
    (marked,) = re.findall(r'<li class="hit".*?</li>', page, re.S)
    assert "Fargo (1996)" in marked and "the true next item" in marked


def test_the_page_opens_with_verdicts_and_folds_details(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results)
    assert page.index("has the highest NDCG@10") < page.index('id="comparison"')
    shown = section_of(page, "comparison").split("<details>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', shown)
    assert heads == ["Model", "Recall@10", "NDCG@10", "Recall@50", "Coverage@10"], "other figures are folded"


def test_text_from_the_data_is_escaped(tmp_path: Path, results: dict[str, Any]) -> None:
    results["run"]["name"] = results["dataset"]["name"] = HOSTILE
    results["notes"] = results["semantic_ids"]["quality"]["notes"] = [HOSTILE]
    results["run"]["config"] = {"a": HOSTILE}
    for model in results["models"].values():
        model["label"] = HOSTILE
    results["models"]["reader"]["by_popularity"][0]["bucket"] = HOSTILE
    page = page_of(tmp_path, results, logs=True)
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 8
    Outline(page)


@pytest.mark.parametrize(
    ("section", "of_models", "keys"),
    [
        ("comparison", True, ["valid", "test"]),
        ("breakdown", True, ["by_popularity", "by_history_length"]),
        ("codebook", False, ["semantic_ids"]),
        ("users", False, ["examples"]),
        ("notes", False, ["notes"]),
    ],
)
def test_a_section_without_data_is_left_out(
    section: str, of_models: bool, keys: list[str], tmp_path: Path, results: dict[str, Any]
) -> None:
    for holder in results["models"].values() if of_models else [results]:
        for key in keys:
            del holder[key]
    assert sections_of(page_of(tmp_path, results, logs=True)) == [name for name in SECTIONS if name != section]


@pytest.mark.parametrize("content", [{}, {"models": {"any": {"test": {}}}}, {"run": {"name": "x"}, "models": None}])
def test_almost_nothing_still_makes_a_page(tmp_path: Path, content: dict[str, Any]) -> None:
    assert sections_of(page_of(tmp_path, content)) == ["run"]


def test_any_single_key_may_be_missing(tmp_path: Path, results: dict[str, Any]) -> None:
    for key in list(results):
        for inner in [None, *(results[key] if isinstance(results[key], dict) else [])]:
            less = deepcopy(results)
            del (less if inner is None else less[key])[key if inner is None else inner]
            Outline(page_of(tmp_path, less))


def test_numbers_that_are_none_or_not_finite_are_left_out(tmp_path: Path, results: dict[str, Any]) -> None:
    results["models"]["reader"]["test"]["recall@10"] = {"value": math.nan, "low": None, "high": None}
    results["models"]["reader"]["parameters"] = None
    results["models"]["counts"]["test"]["recall@10"] = 0.0412
    results["paired"]["speller - reader"]["recall@10"] = {"value": 0.02}
    page = page_of(tmp_path, results)
    assert not re.search(r"\bnan\b", Outline(page).text)
    assert ".0412" in page
    assert "Speller − Reader" in page, "a difference without an interval is shown without a verdict"


def test_training_curves_survive_a_broken_log(tmp_path: Path, results: dict[str, Any]) -> None:
    (tmp_path / "generator").mkdir()
    lines = ['{"step": 1, "loss": 5.0}', "not json", "[1]", '{"step": 1, "loss": 4.0}', '{"step": 2, "loss": NaN}']
    (tmp_path / "generator" / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = page_of(tmp_path, results)
    assert "step 1: 4.000" in page, "the later line of a repeated step counts"
    assert "5.000" not in page


def test_sizes_are_measured_where_the_results_have_none(tmp_path: Path, results: dict[str, Any]) -> None:
    for name, size in (("generator/model/a/weights", 1_400_000), ("baselines/reader/best.safetensors", 846_000)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"0" * size)
    shown = section_of(page_of(tmp_path, results), "costs")
    found = [re.search(r"(\d[\d.]* [kM]B)|–", row) for row in re.findall(r'<tr><th scope="row">.*?</tr>', shown, re.S)]
    assert [match[0] for match in found if match] == ["–", "846 kB", "1.4 MB", "–"]


def test_missing_or_broken_results_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json cannot be read"):
        write_report(tmp_path)
    for text, words in (('{"run": {},\n "models": }', r"results\.json.*line 2"), ("[]", "not a JSON object")):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(UserError, match=words):
            write_report(tmp_path)


def test_an_older_page_stays_whole_until_the_new_one_is(
    tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("the older page")

    def refuse(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_text(encoding="utf-8").endswith("</html>")
        raise OSError("disk trouble")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk trouble"):
        page_of(tmp_path, results)
    assert (tmp_path / "report.html").read_text() == "the older page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


def test_weights_of_selection_are_shown_where_there_is_one(tmp_path: Path, results: dict[str, Any]) -> None:
    assert "weighs its features" not in page_of(tmp_path, results)
    selection = {
        "weights": {"log_probability": 0.75, "never_together": -1.25, HOSTILE: 3.0, "broken": None},
        "cases": 4000,
        "proposed": 0.345,
        "generated": {"ndcg@10": 0.0511},
        "selected": {"ndcg@10": 0.0622},
    }
    results["models"]["picked"]["selection"] = selection
    shown = page_of(tmp_path, results)
    for text in ("+0.75", "−1.25", "Never together", "34.5\u00a0%", "4,000", ".0511", ".0622"):
        assert text in shown
    assert HOSTILE not in shown
    results["models"]["picked"]["selection"] = {"weights": {}}
    assert "weighs its features" in page_of(tmp_path, results), "less in it still makes a page"
