"""What tests of pages share: a small but complete run whose models have names that nobody could know, and reading a page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from onerec.report.report import write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}
HOSTILE = "<script>alert('x')</script> & \"Sons\" {0}"


class Outline(HTMLParser):
    """Checks that tags nest, ids are unique and links lead to them, and collects tags and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page.replace("<wbr>", ""))
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert set(self.links) <= {f"#{name}" for name in self.ids}, "nothing is loaded from elsewhere"
        assert not re.search(r"url\(|@import", page)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


def around(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def figures(recall: float) -> dict[str, Any]:
    shares = {1: 0.2, 5: 0.6, 10: 1.0, 20: 1.5, 50: 2.4}
    names = {"recall": 1.0, "ndcg": 0.5, "mrr": 0.4}
    found: dict[str, Any] = {f"{m}@{k}": around(recall * f * s) for m, f in names.items() for k, s in shares.items()}
    return {**found, "coverage@10": 0.3125, "cases": 943}


def model(label: str, recall: float, **more: Any) -> dict[str, Any]:
    rare = {"bucket": "0 (cold)", "cases": 12, "recall@10": around(0.0, 0.0), "ndcg@10": around(0.0, 0.0)}
    known = {"bucket": "1-5", "cases": 931, "recall@10": around(recall * 1.1), "ndcg@10": around(recall / 2)}
    return {
        "label": label,
        "description": f"About {label}.",
        "parameters": 123456,
        "train_seconds": 83.2,
        "recommend_users_per_second": 1234.5,
        "test": figures(recall),
        "valid": figures(recall + 0.01),
        "by_popularity": [rare, known],
        "by_history_length": [{"bucket": "over 50", "cases": 943, "recall@10": around(recall)}],
        **more,
    }


def complete_results() -> dict[str, Any]:
    """A small but complete `results.json`: `speller` generates, `picked` is made from it, the others are baselines."""
    models = {
        "speller": model("Speller", 0.1087),
        "picked": model("Speller + picks", 0.1202),
        "counts": model("Counts", 0.0412),
        "reader": model("Reader", 0.1102),
    }
    for name, entry in models.items():
        entry["own"] = name in ("speller", "picked")
    models["speller"]["test"]["id_recall@10"] = around(0.1234)
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
            "picked - speller": {"recall@10": around(0.0115), "ndcg@10": around(0.0205)},
            "picked - reader": {"recall@10": around(0.01), "ndcg@10": around(0.0105)},
            "picked - counts": {"recall@10": around(0.08), "ndcg@10": around(0.04)},
            "speller - reader": {"recall@10": around(-0.0015), "ndcg@10": around(-0.0007)},
            "speller - counts": {"recall@10": around(0.0675), "ndcg@10": around(0.0338)},
        },
        "semantic_ids": {
            "level_sizes": [4, 4],
            "quality": {
                "id_levels": [{"entropy_share": 0.94, "gini": 0.25}, {"entropy_share": 0.65, "gini": 0.5}],
                "reconstruction": {"share_of_variance": 0.2371},
                "collisions_before": {"share_of_items": 0.1, "largest_group": 5},
                "moved": 3,
            },
            "code_load": [[9, 5, 4, 2], [12, 6, 2, 0]],
        },
        "examples": [
            {
                "user": "196",
                "history": [{"title": f"Film {index}", "item": str(index)} for index in range(20)],
                "target": {"title": "Fargo (1996)", "item": "100"},
                "recommendations": {
                    "speller": [
                        {"title": HOSTILE, "item": "5", "score": -1.5, "hit": False},
                        {"title": "Fargo (1996)", "item": "100", "score": -2.25, "hit": True},
                    ],
                    "reader": [{"title": "Babe (1995)", "item": "8", "score": 3.0, "hit": False}],
                },
            }
        ],
        "notes": ["One seed only."],
        "protocol": {"split": "leave_one_out", "exclude_seen": True, "beam_width": 50, "cold_cases": 12},
    }


def page_of(folder: Path, results: dict[str, Any], *, logs: bool = False) -> str:
    """The page that the report makes of results, with training logs beside them if asked for."""
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for part in ("generator", "baselines/reader") if logs else ():
        (folder / part).mkdir(parents=True, exist_ok=True)
        lines = [{"step": 10 * n, "loss": 8 / n, "targets_per_second": 9000.0} for n in range(1, 20)]
        lines += [{"step": 50 * n, "epoch": n, "valid/ndcg@10": 0.01 * n} for n in range(1, 4)]
        text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 200, "lo'
        (folder / part / "metrics.jsonl").write_text(text, encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def section_of(page: str, name: str) -> str:
    """One section of a page; the test fails where there is none."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.S)
    assert found is not None, f"no section {name}"
    return found[0]


def charts_of(page: str) -> list[str]:
    return re.findall(r'<svg class="chart".*?</svg>', page, re.S)
