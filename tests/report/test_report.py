"""The report page: what it shows, what it leaves out, and that nothing in the data can break it."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pages import HOSTILE, charts_of, complete_results, page_of, section_of

from onerec.errors import UserError
from onerec.report.report import write_report
from onerec.report.values import figure

SECTIONS = ("comparison", "costs", "breakdown", "training", "codebook", "users", "notes", "run")
VOID = {"meta", "br", "link", "img", "hr", "input"}


@pytest.fixture
def results() -> dict[str, Any]:
    return complete_results()


class Outline(HTMLParser):
    """Checks that tags nest, and collects ids, links and the text between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page.replace("<wbr>", ""))
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def sections(self) -> list[str]:
        return [name for name in self.ids if name in SECTIONS]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [(name, value or "") for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [(name, value or "") for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def test_a_complete_run_shows_every_section_and_its_numbers(tmp_path: Path, results: dict[str, Any]) -> None:
    outline = Outline(page_of(tmp_path, results, logs=True))
    assert outline.sections == list(SECTIONS)
    for model in results["models"].values():
        for part in ("test", "valid"):
            for interval in (model[part][f"{m}@{k}"] for m in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20, 50)):
                ends = f"{figure(interval['low'])}–{figure(interval['high'])}"
                assert f"{figure(interval['value'])} {ends}" in outline.text
    for shown in (".1234", "31.2 %", "123,456", "1 min 23 s", "1,234", "100,000", "3f9a1c7e5b2d4f60"):
        assert shown in outline.text
    for shown in ("with uncommitted changes", "7 min 13 s", "3 May 2026", "learning_rate: 0.001", "About Counts."):
        assert shown in outline.text
    for shown in ("One seed only.", "23.7 %", "largest group has 5 items"):
        assert shown in outline.text
    for shown in (
        "then came",
        "User 196: 1 of 2 lists hold Fargo (1996)",
        "best validation NDCG@10 .0300 at step 150",
    ):
        assert shown in outline.text


def test_the_page_opens_with_verdicts_and_folds_details(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results)
    assert page.index("has the highest NDCG@10") < page.index('id="comparison"')
    shown = section_of(page, "comparison").split("<details>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', shown)
    assert heads == ["Model", "Recall@10", "NDCG@10", "Recall@50", "Coverage@10"], "other figures are folded"


def test_hit_is_marked_only_where_it_is(tmp_path: Path, results: dict[str, Any]) -> None:
    (marked,) = re.findall(r'<li class="hit".*?</li>', page_of(tmp_path, results), re.S)
    assert "Fargo (1996)" in marked
    assert "the true next item" in marked


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


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    assert "@import" not in page
    assert "url(" not in page
    outline = Outline(page)
    assert outline.links
    assert all(name == "href" and value.startswith("#") for name, value in outline.links)
    assert {value[1:] for _, value in outline.links} <= set(outline.ids)


def test_charts_are_well_formed_and_described(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    # 2 figures, 2 differences to the generator and 2 to a baseline, 2 breakdowns, 3 curves for each of two models, 2 levels.
    assert len(charts_of(page)) == 16
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-hidden") == "true" or (root.get("role") == "img" and root.get("aria-label"))
        assert not re.search(r"nan|inf\b", drawing.split(">", 1)[1])


def test_tables_have_captions_and_scopes(tmp_path: Path, results: dict[str, Any]) -> None:
    tables = re.findall(r"<table>.*?</table>", page_of(tmp_path, results), re.S)
    assert len(tables) == 7  # summary, test, validation, pairs, costs, two breakdowns
    for table in tables:
        assert "<caption>" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))


@pytest.mark.parametrize(
    ("section", "without"),
    [
        ("comparison", lambda r: [model.pop(part) for model in r["models"].values() for part in ("test", "valid")]),
        (
            "breakdown",
            lambda r: [m.pop(k) for m in r["models"].values() for k in ("by_popularity", "by_history_length")],
        ),
        ("codebook", lambda r: r.pop("semantic_ids")),
        ("users", lambda r: r.pop("examples")),
        ("notes", lambda r: r.pop("notes")),
    ],
)
def test_a_section_without_data_is_left_out(
    tmp_path: Path, results: dict[str, Any], section: str, without: Any
) -> None:
    without(results)
    page = page_of(tmp_path, results, logs=True)
    assert Outline(page).sections == [name for name in SECTIONS if name != section]
    assert f'href="#{section}"' not in page


@pytest.mark.parametrize("content", [{}, {"models": {"any": {"test": {}}}}, {"run": {"name": "x"}, "models": None}])
def test_almost_nothing_still_makes_a_page(tmp_path: Path, content: dict[str, Any]) -> None:
    assert Outline(page_of(tmp_path, content)).sections == ["run"]


def test_any_single_key_may_be_missing(tmp_path: Path, results: dict[str, Any]) -> None:
    for key in list(results):
        for inner in [None, *(results[key] if isinstance(results[key], dict) else [])]:
            less = json.loads(json.dumps(results))
            if inner is None:
                del less[key]
            else:
                del less[key][inner]
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
    results["models"]["picked"]["model_bytes"] = 12_345_678
    shown = section_of(page_of(tmp_path, results), "costs")
    found = [re.search(r"(\d[\d.]* [kM]B)|–", row) for row in re.findall(r'<tr><th scope="row">.*?</tr>', shown, re.S)]
    assert [match[0] for match in found if match] == ["12 MB", "846 kB", "1.4 MB", "–"]


def test_missing_or_broken_results_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json does not exist"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text('{"run": {},\n "models": }')
    with pytest.raises(UserError, match=r"results\.json, line 2"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        write_report(tmp_path)


def test_an_older_page_stays_whole_until_the_new_one_is(
    tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("the older page")

    def refuse(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_text(encoding="utf-8").endswith("</html>")
        raise OSError("disk trouble")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="disk trouble"):
            page_of(tmp_path, results)
    assert (tmp_path / "report.html").read_text() == "the older page"
    assert page_of(tmp_path, results).startswith("<!doctype html>")
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
