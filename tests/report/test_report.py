"""The report page: what it shows, what it leaves out, and that its drawings put numbers where they belong."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from onerec.errors import UserError
from onerec.report.charts import Interval
from onerec.report.report import write_report
from onerec.report.sections import list_models
from onerec.report.values import duration, figure, in_words, verdict

HOSTILE = "<script>alert('x')</script> & \"Sons\""
SECTIONS = ("comparison", "training", "breakdown", "codebook", "users", "notes", "run")
VOID = {"meta", "br", "link", "img", "hr", "input"}


def around(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def figures(recall: float) -> dict[str, Any]:
    shares = {1: 0.2, 5: 0.6, 10: 1.0, 20: 1.5, 50: 2.4}
    names = {"recall": 1.0, "ndcg": 0.5, "mrr": 0.4}
    found: dict[str, Any] = {f"{m}@{k}": around(recall * f * s) for m, f in names.items() for k, s in shares.items()}
    return {**found, "coverage@10": 0.3125, "cases": 943}


@pytest.fixture
def results() -> dict[str, Any]:
    """A small but complete `results.json`."""
    models: dict[str, Any] = {}
    for name, recall in {"popularity": 0.0412, "onerec": 0.1087, "sasrec": 0.1102}.items():
        models[name] = {
            "parameters": 123456,
            "train_seconds": 83.2,
            "description": f"About {name}.",
            "test": figures(recall),
            "valid": figures(recall + 0.01),
            "by_popularity": [
                {"bucket": "0 (cold)", "cases": 12, "recall@10": around(0.0, 0.0), "ndcg@10": around(0.0, 0.0)},
                {"bucket": "1-5", "cases": 931, "recall@10": around(recall * 1.1), "ndcg@10": around(recall / 2)},
            ],
            "by_history_length": [{"bucket": "over 50", "cases": 943, "recall@10": around(recall)}],
        }
    models["onerec"]["test"]["id_recall@10"] = around(0.1234)
    return {
        "run": {
            "name": "demo",
            "config": {"seed": 7, "train": {"learning_rate": 0.001}},
            "commit": "3f9a1c7e5b2d4f60",
            "dirty": True,
            "seed": 7,
            "versions": {"torch": "2.13.0"},
            "machine": {"cores": 2},
            "started": "2026-05-03T14:05:22+00:00",
            "seconds": 432.7,
            "command": "onerec run configs/demo.yaml",
        },
        "dataset": {"name": "movielens", "users": 943, "items": 1682, "events": 100000, "sha256": "ab" * 32},
        "models": models,
        "paired": {
            "onerec - sasrec": {"recall@10": around(-0.0015), "ndcg@10": around(-0.0007)},
            "onerec - popularity": {"recall@10": around(0.0675), "ndcg@10": around(0.0338)},
        },
        "semantic_ids": {
            "level_sizes": [4, 4],
            "quality": {
                "reconstruction": 0.2371,
                "utilisation": [1.0, 0.75],
                "entropy": [1.3, 0.9],
                "entropy_share": [0.94, 0.65],
                "collisions": {"largest_group": 5},
            },
            "code_load": [[9, 5, 4, 2], [12, 6, 2]],
        },
        "examples": [
            {
                "user": "196",
                "history": [{"title": f"Film {index}", "item": str(index)} for index in range(20)],
                "target": {"title": "Fargo (1996)", "item": "100"},
                "recommendations": {
                    "onerec": [
                        {"title": HOSTILE, "item": "5", "score": -1.5, "hit": False},
                        {"title": "Fargo (1996)", "item": "100", "score": -2.25, "hit": True},
                    ],
                    "sasrec": [{"title": "Babe (1995)", "item": "8", "score": 3.0, "hit": False}],
                },
            }
        ],
        "notes": ["One seed only."],
        "protocol": {"split": "leave_one_out", "exclude_seen": True, "beam_width": 50, "cold_cases": 12},
    }


def page_of(folder: Path, results: dict[str, Any], *, logs: bool = False) -> str:
    (folder / "results.json").write_text(json.dumps(results))
    if logs:
        for part in ("generator", "baselines/sasrec"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            lines = [{"step": 10 * n, "loss": 8 / n, "targets_per_second": 9000.0} for n in range(1, 20)]
            lines += [{"step": 50 * n, "epoch": n, "valid/ndcg@10": 0.01 * n} for n in range(1, 4)]
            text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 200, "lo'
            (folder / part / "metrics.jsonl").write_text(text)
    return write_report(folder).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that tags nest, and collects ids, links, attributes and the text between tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return parser


def test_a_complete_run_shows_every_section_and_its_numbers(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    parsed = outline(page)
    assert [name for name in SECTIONS if name in parsed.ids] == list(SECTIONS)
    text = " ".join(" ".join(parsed.words).split())
    for model in results["models"].values():
        for part in ("test", "valid"):
            for interval in (model[part][f"{m}@{k}"] for m in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20, 50)):
                assert figure(interval["value"]) in text
                assert f"{figure(interval['low'])}–{figure(interval['high'])}" in text
    for shown in (
        "0.1234",
        "31.2 %",
        "123,456",
        "1 min 23 s",
        "100,000",
        "3f9a1c7e5b2d4f60",
        "with uncommitted changes",
    ):
        assert shown in text
    for shown in ("OneRec is level with SASRec", "OneRec is above Popularity", "above Popularity, level with SASRec"):
        assert shown in text
    for shown in ("One seed only.", "0.2371", "largest group", "found at place 2", "not among these 1", "8 earlier"):
        assert shown in text
    assert "7 min 13 s" in text
    assert "3 May 2026" in text
    assert "learning_rate: 0.001" in text


def test_hit_is_marked_only_where_it_is(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results)
    marked = re.findall(r'<li class="hit".*?</li>', page, re.S)
    assert len(marked) == 1
    assert "Fargo (1996)" in marked[0]
    assert "the true next item" in marked[0]


def test_text_from_the_data_is_escaped(tmp_path: Path, results: dict[str, Any]) -> None:
    results["run"]["name"] = results["dataset"]["name"] = results["models"]["sasrec"]["label"] = HOSTILE
    results["notes"] = results["semantic_ids"]["quality"]["notes"] = [HOSTILE]
    results["run"]["config"] = {"a": HOSTILE}
    results["models"]["sasrec"]["by_popularity"][0]["bucket"] = HOSTILE
    results["paired"][f"onerec - {HOSTILE}"] = {"recall@10": around(0.1)}
    page = page_of(tmp_path, results, logs=True)
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 8
    outline(page)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    assert "@import" not in page
    assert "url(" not in page
    links = [(name, value) for _, name, value in outline(page).attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(name == "href" and value.startswith("#") for name, value in links)
    assert {value[1:] for _, value in links} <= set(outline(page).ids)


def test_charts_are_well_formed_and_described(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results, logs=True)
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    # 2 comparison, 2 paired, 2 breakdowns, 3 curves for each of two models, 2 levels.
    assert sum('class="chart"' in drawing for drawing in drawings) == 14
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-hidden") == "true" or (root.get("role") == "img" and root.get("aria-label"))
        assert not re.search(r"nan|inf\b", drawing.split(">", 1)[1])


def test_tables_have_captions_and_scopes(tmp_path: Path, results: dict[str, Any]) -> None:
    page = page_of(tmp_path, results)
    for table in re.findall(r"<table>.*?</table>", page, re.S):
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
    parsed = outline(page)
    assert [name for name in SECTIONS if name in parsed.ids] == [name for name in SECTIONS if name != section]
    assert f'href="#{section}"' not in page


@pytest.mark.parametrize("content", [{}, {"models": {"onerec": {"test": {}}}}, {"run": {"name": "x"}, "models": None}])
def test_almost_nothing_still_makes_a_page(tmp_path: Path, content: dict[str, Any]) -> None:
    parsed = outline(page_of(tmp_path, content))
    assert [name for name in SECTIONS if name in parsed.ids] == ["run"]


def test_any_single_key_may_be_missing(tmp_path: Path, results: dict[str, Any]) -> None:
    for key in list(results):
        for inner in [None, *(results[key] if isinstance(results[key], dict) else [])]:
            less = json.loads(json.dumps(results))
            if inner is None:
                del less[key]
            else:
                del less[key][inner]
            outline(page_of(tmp_path, less))


def test_numbers_that_are_none_or_not_finite_are_left_out(tmp_path: Path, results: dict[str, Any]) -> None:
    results["models"]["sasrec"]["test"]["recall@10"] = {"value": math.nan, "low": None, "high": None}
    results["models"]["sasrec"]["parameters"] = None
    results["models"]["popularity"]["test"]["recall@10"] = 0.0412
    results["paired"]["onerec - sasrec"]["recall@10"] = {"value": 0.02}
    page = page_of(tmp_path, results)
    outline(page)
    assert "nan" not in re.sub(r"<style.*?</style>", "", page, flags=re.S)
    assert "0.0412" in page
    assert "OneRec − SASRec" in page, "a difference without an interval is shown without a verdict"


def test_figures_of_levels_may_come_as_one_mapping_a_level(tmp_path: Path, results: dict[str, Any]) -> None:
    results["semantic_ids"] = {
        "quality": {
            "id_levels": [{"size": 8, "utilisation": 0.875, "entropy_share": 0.5}],
            "reconstruction": {"share_of_variance": 0.4321},
        }
    }
    page = page_of(tmp_path, results)
    assert "87.5 %" in page
    assert "50.0 %" in page
    assert "Reconstruction: share of variance" in page
    assert "0.4321" in page


def test_training_curves_survive_a_broken_log(tmp_path: Path, results: dict[str, Any]) -> None:
    (tmp_path / "generator").mkdir()
    lines = ['{"step": 1, "loss": 5.0}', "not json", "[1]", '{"step": 1, "loss": 4.0}', '{"step": 2, "loss": NaN}']
    (tmp_path / "generator" / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path, results)
    assert "step 1: 4.000" in page, "the later line of a repeated step counts"
    assert "5.000" not in page


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
    (tmp_path / "results.json").write_text(json.dumps(results))

    def refuse(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_text(encoding="utf-8").endswith("</html>")
        raise OSError("disk trouble")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="disk trouble"):
            write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == "the older page"
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


def test_models_stand_best_first_and_onerec_keeps_the_accent(results: dict[str, Any]) -> None:
    models = list_models(results)
    assert [model.name for model in models] == ["sasrec", "onerec", "popularity"]
    assert {model.name: model.style for model in models}["onerec"] == 0
    assert len({model.style for model in models}) == 3


def test_words() -> None:
    assert [verdict(Interval(0.1, *ends)) for ends in ((0.01, 0.2), (-0.01, 0.2), (-0.2, -0.01), (0.0, 0.1))] == [
        "above",
        "level with",
        "below",
        "level with",
    ]
    assert verdict(Interval(0.1)) == ""
    assert [duration(s) for s in (0.02, 0.42, 59.7, 432.7, 7500)] == [
        "< 0.1 s",
        "0.4 s",
        "1 min 0 s",
        "7 min 13 s",
        "2 h 5 min",
    ]
    assert [in_words(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


def test_what_selection_weighs_is_shown_where_there_is_one(results: dict[str, Any], tmp_path: Path) -> None:
    def page() -> str:
        (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
        return write_report(tmp_path).read_text(encoding="utf-8")

    assert "What selection goes by" not in page()
    results["models"]["onerec_selection"] = {
        **results["models"]["onerec"],
        "selection": {
            "weights": {"log_probability": 0.75, "never_together": -1.25, HOSTILE: 3.0, "broken": None},
            "cases": 4000,
            "proposed": 0.345,
            "generated": {"ndcg@10": 0.0511},
            "selected": {"ndcg@10": 0.0622},
        },
    }
    shown = page()
    for text in ("What selection goes by", "+0.75", "-1.25", "Never together", "34.5 %", "4,000", "0.0511", "0.0622"):
        assert text in shown
    assert HOSTILE not in shown
    results["models"]["onerec_selection"]["selection"] = {"weights": {}}
    assert "What selection goes by" in page()  # an older file with less in it still makes a page


def test_of_many_differences_the_chart_shows_those_that_matter(tmp_path: Path, results: dict[str, Any]) -> None:
    assert "the table has every pair" not in page_of(tmp_path, results)
    for place, name in enumerate(("onerec_selection", "onerec_aligned", "onerec_reward_selection")):
        results["models"][name] = {**results["models"]["onerec"], "label": name, "test": figures(0.12 + place / 100)}
    own = [name for name in results["models"] if name.startswith("onerec")]
    pairs = [(one, other) for one in own for other in (*own, "sasrec", "popularity") if one != other]
    results["paired"] = {f"{one} - {other}": {"ndcg@10": around(0.02)} for one, other in pairs}
    page = page_of(tmp_path, results)
    assert "the table has every pair" in page
    drawing = re.search(r'aria-label="Difference in NDCG@10.*?</svg>', page, re.S)
    assert drawing is not None
    assert "onerec_reward_selection is above SASRec" in drawing[0]
    assert "onerec_aligned is above onerec_selection" in drawing[0]
    assert "onerec_aligned is above SASRec" not in drawing[0]
    assert "onerec_aligned − SASRec" in page
