"""Several seeds in one table: one run alone gives its own figures, and runs that do not belong together are refused."""

import copy
import json

import numpy as np
import pytest
from command_line import TinyRun

from benchmarks.recall import as_results_file
from benchmarks.result_tables import shown_of
from benchmarks.seeds import check_alike, combined, facts_of
from onerec.errors import UserError
from onerec.run.opening import reopen_run


def test_one_run_alone_gives_its_own_figures(tiny_run: TinyRun) -> None:
    stored = json.loads((tiny_run.folder / "results.json").read_text(encoding="utf-8"))
    made = combined([tiny_run.folder])
    assert list(made["models"]) == list(stored["models"])
    for name, model in made["models"].items():
        for part in ("valid", "test"):
            for metric in ("recall@10", "ndcg@50", "mrr@5"):
                assert model[part][metric] == pytest.approx(stored["models"][name][part][metric])
        assert model["by_seed"]["ndcg@10"] == [stored["models"][name]["test"]["ndcg@10"]["value"]]
    for pair, figures in made["paired"].items():
        assert figures["recall@10"] == pytest.approx(stored["paired"][pair]["recall@10"])
    made["run"]["command"] = "python -m benchmarks.seeds runs/tiny"
    shown = shown_of(as_results_file(made))
    assert "| OneRec + selection |" in shown
    assert "seeds 17;" in shown


def test_figures_are_means_over_the_seeds(tiny_run: TinyRun) -> None:
    first = json.loads((tiny_run.folder / "results.json").read_text(encoding="utf-8"))
    second = copy.deepcopy(first)
    second["models"]["onerec"]["train_seconds"] += 10
    second["models"]["onerec"]["test"]["recall@10"]["value"] = 0.25
    facts = facts_of("onerec", [first, second])
    assert facts["train_seconds"] == pytest.approx(first["models"]["onerec"]["train_seconds"] + 5)
    assert facts["by_seed"]["recall@10"] == [first["models"]["onerec"]["test"]["recall@10"]["value"], 0.25]


def test_runs_that_do_not_belong_together_are_refused(tiny_run: TinyRun) -> None:
    folder = tiny_run.folder
    first = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    asked = reopen_run(folder, []).requests("test")
    other = copy.deepcopy(first)
    with pytest.raises(UserError, match="each run must have its own"):
        check_alike([folder, folder], [first, other], [asked, asked])
    other["run"]["seed"] = 99
    check_alike([folder, folder], [first, other], [asked, asked])
    with pytest.raises(UserError, match="its users are not those"):
        check_alike([folder, folder], [first, other], [asked, asked.pick(np.arange(3))])
    del other["models"]["sasrec"]
    with pytest.raises(UserError, match="holds other models"):
        check_alike([folder, folder], [first, other], [asked, asked])
    other["protocol"]["positive"] = "like"
    with pytest.raises(UserError, match="its protocol is not that of"):
        check_alike([folder, folder], [first, other], [asked, asked])
