"""Sentences about a run say what its figures say, and no more; who is who comes from the results."""

from typing import Any

import pytest
from pages import around, complete_results

from onerec.report.charts import Interval
from onerec.report.models import read_models
from onerec.report.values import date_in_words, duration, figure, in_words, signed, size, verdict, with_interval
from onerec.report.verdicts import verdicts


@pytest.fixture
def results() -> dict[str, Any]:
    return complete_results()


def said(results: dict[str, Any]) -> dict[str, str]:
    return dict(verdicts(read_models(results)))


def test_models_stand_best_first_and_the_generator_has_the_accent(results: dict[str, Any]) -> None:
    comparison = read_models(results)
    assert [model.name for model in comparison.models] == ["picked", "reader", "speller", "counts"]
    assert {model.style for model in comparison.models} == set(range(4))
    assert [model.name for model in comparison.own] == ["picked", "speller"]
    generator = comparison.generator
    assert generator is not None and (generator.name, generator.style) == ("speller", 0), (
        "the first of ours in the file"
    )


def test_differences_are_found_either_way_round(results: dict[str, Any]) -> None:
    comparison = read_models(results)
    by_name = {model.name: model for model in comparison.models}
    turned = comparison.difference(by_name["counts"], by_name["speller"], "ndcg@10")
    assert turned == Interval(-0.0338, pytest.approx(-0.0438), pytest.approx(-0.0238))  # type: ignore[arg-type]
    assert comparison.difference(by_name["counts"], by_name["reader"], "ndcg@10") is None


def test_the_best_list_generation_alone_what_pays_and_the_cost(results: dict[str, Any]) -> None:
    assert said(results) == {
        "Best list": "Speller + picks has the highest NDCG@10, .0601. It is level with Reader, the best baseline, in Recall@10 "
        "(+.0100, +.0000 to +.0200) and above it in NDCG@10 (+.0105, +.0005 to +.0205).",
        "Generation alone": "Speller is level with Reader in Recall@10 (−.0015, −.0115 to +.0085) and NDCG@10 "
        "(−.0007, −.0107 to +.0093).",
        "What pays": "Speller + picks (+.0205, +.0105 to +.0305) gains NDCG@10 over Speller.",
        "Cost": "Training took 1 min 23 s for Speller + picks and 1 min 23 s for Reader; they recommend to 1,234 and 1,234 "
        "users a second.",
    }


def test_a_baseline_that_is_best_is_named_first(results: dict[str, Any]) -> None:
    results["models"]["reader"]["test"]["ndcg@10"] = around(0.2)
    for pair in ("picked - reader", "speller - reader"):
        results["paired"][pair] = {"recall@10": around(-0.05), "ndcg@10": around(-0.1)}
    results["paired"]["picked - speller"] = {"ndcg@10": around(0.0), "p_score@10": around(0.3)}
    words = said(results)
    assert words["Best list"] == (
        "Reader has the highest NDCG@10, .2000. Speller + picks, the best list of the generator, is below Reader in "
        "Recall@10 (−.0500, −.0600 to −.0400) and NDCG@10 (−.1000, −.1100 to −.0900)."
    )
    assert words["Generation alone"].startswith("Speller is below Reader in Recall@10")
    assert words["What pays"] == (
        "Speller + picks does not pay: level with Speller. In P-Score, which a separate reward model gives, Speller + picks "
        "is above Speller."
    )


def test_nothing_is_said_without_an_interval(results: dict[str, Any]) -> None:
    results["paired"] = {pair: {"ndcg@10": {"value": 0.5}} for pair in results["paired"]}
    assert set(said(results)) == {"Best list", "Cost"}
    assert said(results)["Best list"] == "Speller + picks has the highest NDCG@10, .0601."
    assert said({"models": {}}) == {}


def test_words() -> None:
    ends = ((0.01, 0.2), (-0.01, 0.2), (-0.2, -0.01), (0.0, 0.1))
    assert [verdict(Interval(0.1, *each)) for each in ends] == ["above", "level with", "below", "level with"]
    assert verdict(Interval(0.1)) == ""
    seconds = (0.02, 0.42, 59.7, 432.7, 7500, 7200)
    assert [duration(s) for s in seconds] == ["< 0.1 s", "0.4 s", "1 min", "7 min 13 s", "2 h 5 min", "2 h"]
    assert [in_words(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [size(each) for each in (0, 512, 1_640_000, 24e9, 3e13)] == ["0 B", "512 B", "1.6 MB", "24 GB", "30000 GB"]
    assert [signed(each) for each in (0.0109, -0.0111, -0.00001)] == ["+.0109", "−.0111", "+.0000"]
    assert [figure(each) for each in (0.0653, 1.0)] == [".0653", "1.0000"]
    assert with_interval(Interval(0.5, 0.25, 0.75)) == ".5000 (.2500–.7500)"
    assert [date_in_words(each) for each in (None, "soon")] == ["", "soon"]
