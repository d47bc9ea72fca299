"""What the terminal shows are the figures of results.json, for every model and every bucket."""

from command_line import TinyRun, results_of
from rich.console import Console

from onerec.report.terminal import BREAKDOWNS, print_comparison, print_details, share_text


def test_every_cutoff_and_bucket_is_printed(tiny_run: TinyRun) -> None:
    results, console = results_of(tiny_run.folder), Console(record=True, width=160)
    print_details(results, console)
    shown = console.export_text()
    lines = [line.split() for line in shown.splitlines()]
    for model in results["models"].values():
        for measure in ("recall", "ndcg", "mrr"):
            cells = [share_text(model["test"][f"{measure}@{k}"]["value"]) for k in (1, 5, 10, 20, 50)]
            assert [*model["label"].split(), *cells] in lines
        for breakdown in BREAKDOWNS:
            for row in model[breakdown]:
                assert f"({row['cases']:,})" in shown
                assert share_text(row["recall@10"]["value"]) in shown


def test_the_comparison_says_on_which_side_of_zero_an_interval_lies() -> None:
    figure = {"value": 0.1, "low": 0.05, "high": 0.15}
    test = {"cases": 3, "coverage@10": 0.5, **dict.fromkeys(("recall@10", "ndcg@10", "recall@50"), figure)}
    results = {
        "dataset": {"name": "made up"},
        "protocol": {"exclude_seen": True, "beam_width": 50},
        "models": {"onerec": {"label": "OneRec", "parameters": 1, "train_seconds": 2.0, "test": test}},
        "paired": {
            "onerec - a": {"recall@10": figure, "ndcg@10": {"value": -0.1, "low": -0.2, "high": -0.01}},
            "onerec - b": {"recall@10": {"value": 0.0, "low": -0.1, "high": 0.1}, "ndcg@10": figure},
        },
    }
    console = Console(record=True, width=200)
    print_comparison(results, console)
    first, second = (line for line in console.export_text().splitlines() if line.startswith("onerec - "))
    assert "above), ndcg@10" in first
    assert first.endswith("below)")
    assert "level), ndcg@10" in second
    assert second.endswith("above)")


def test_what_a_judge_says_stands_beside() -> None:
    figure = {"value": 0.1, "low": 0.05, "high": 0.15}
    test = {"cases": 3, "coverage@10": 0.5, **dict.fromkeys(("recall@10", "ndcg@10", "recall@50"), figure)}
    judged = {"value": 0.4321, "low": 0.4, "high": 0.5}
    results = {
        "dataset": {"name": "made up"},
        "protocol": {"exclude_seen": True, "beam_width": 50},
        "judge": "reward model of second users",
        "models": {"onerec": {"label": "OneRec", "train_seconds": 2.0, "test": {**test, "p_score@10": judged}}},
        "paired": {"onerec - a": {"recall@10": figure, "ndcg@10": figure, "p_score@10": judged}},
    }
    console = Console(record=True, width=200)
    print_comparison(results, console)
    shown = console.export_text()
    assert ".4321 (.4000-.5000)" in shown
    assert "p_score@10 +0.4321 (+0.4000 to +0.5000, above)" in shown
    assert "by the reward model of second users" in shown
