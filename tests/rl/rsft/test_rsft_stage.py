"""The stage and the command of RSFT."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import TIMED, file_states
from rsft_cases import facts_of, reopened, same, sessions_of_table, typed, weights_in
from torch import Tensor
from watched_cases import HISTORY_LENGTH, watched_events, write_watched

from onerec.cli import main
from onerec.data.windows import Batch
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.run.lists import lists_of
from onerec.run.run import Run
from onerec.run.stages.generator import load_generator
from onerec.train.trainer import Trainer
from rl.alignment.evaluation import BEFORE, RSFT
from rl.config.rsft import RsftConfig
from rl.rsft.stage import load_rsft, rsft_model, train_rsft

GAP = RsftConfig(session_gap=2500)


def test_the_command_trains_on_and_measures_before_and_after(
    watched: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_states(runs / "watched" / "generator")
    capsys.readouterr()
    assert main(["rsft", *typed(watched), "--runs", str(runs)]) == 0
    output = capsys.readouterr().out
    assert "RSFT - before" in output and "p_score@10" not in output
    folder = runs / "watched" / "rsft"
    assert {"model", "metrics.jsonl", "training.json", "results.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "checkpoint.pt").exists()
    assert file_states(runs / "watched" / "generator") == before

    run, facts = reopened(watched, runs), facts_of(folder)
    sessions = sessions_of_table(run, GAP)
    assert (facts["sessions"], facts["dropped_sessions"]) == (len(sessions), len(sessions) // 2)
    first = run.sequences.event_rows[run.sequences.offsets[:-1]]  # a user's first event is no target
    firsts = {tuple(row) for row in run.dataset.events[first].select("user", "time").rows()}
    targets = Counter(
        dropped
        for dropped, session in sessions
        for row in session
        if row["liked"] and (row["user"], row["time"]) not in firsts
    )
    assert (facts["targets"], facts["dropped_targets"]) == (targets.total(), targets[True])
    assert f"{facts['dropped_sessions']} of {facts['sessions']} sessions dropped" in output

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(results["models"]) == [BEFORE, RSFT]
    pair = results["paired"][f"{RSFT} - {BEFORE}"]
    for name in ("recall@10", "ndcg@10"):
        figures = [results["models"][model]["test"][name]["value"] for model in (BEFORE, RSFT)]
        assert pair[name]["value"] == pytest.approx(figures[1] - figures[0], abs=1e-9)
    assert not same(weights_in(folder), weights_in(runs / "watched" / "generator"))
    listed = load_rsft(run).recommend(run.requests("test"), 50, exclude_seen=True).items_CK
    assert np.array_equal(listed, lists_of(run, rsft_model(run))["test"])
    assert not np.array_equal(listed, lists_of(run, run.models()["onerec"])["test"])

    done = file_states(folder / "model")
    assert main(["rsft", *typed(watched), "--runs", str(runs)]) == 0
    assert file_states(folder / "model") == done


def test_dropped_events_have_no_loss_and_stay_in_the_history(
    watched: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reopened(watched, runs, "rsft.train.epochs=1", "rsft.train.learning_rate=1e-12")
    seen: list[tuple[tuple[int, ...], int]] = []
    forward = Generator.forward

    def recorded(self: Generator, batch: Batch, *rest: Any) -> Any:
        for row, position in batch.counted_BT.nonzero().tolist():
            history = tuple(batch.items_BT[row, : position + 1].tolist())
            seen.append((history, int(batch.targets_BT[row, position])))
        return forward(self, batch, *rest)

    monkeypatch.setattr(Generator, "forward", recorded)
    train_rsft(run)
    # It goes on from the trained weights: at no learning rate to speak of they are the ones it ends with.
    assert same(weights_in(run.folder / "rsft"), weights_in(run.folder / "generator"), tolerance=1e-6)
    users: dict[int, list[tuple[int, bool]]] = {}
    for dropped, session in sessions_of_table(run, GAP):
        for row in session:
            if row["liked"]:
                users.setdefault(row["user"], []).append((row["item"], dropped))
    kept = [
        ([item for item, _ in events[:place]], target, any(gone for _, gone in events[max(0, place - 3) : place]))
        for events in users.values()
        for place, (target, dropped) in enumerate(events)
        if place and not dropped
    ]
    assert Counter(target for _, target in seen) == Counter(target for _, target, _ in kept)
    for history, target, _ in kept:
        # Overlapping windows leave a target at least half of the longest history, or all there is.
        shortest = min(len(history), HISTORY_LENGTH // 2)
        found = [read for read, asked in seen if asked == target and list(read) == history[-len(read) :]]
        assert any(len(read) >= shortest for read in found)
    assert sum(reads_dropped for _, _, reads_dropped in kept) > 20


def two_kinds(users: int) -> pl.DataFrame:
    """Sessions of odd items, watched long, and of even items, watched a little; all of it is liked."""
    draw, events = np.random.default_rng(1), np.arange(users * 8 * 4)
    odd, session = draw.integers(2, size=users * 8).repeat(4), events // 4 % 8
    columns = {
        "user": events // 32,
        "item": draw.integers(20, size=len(events)) * 2 + odd,
        "time": session * 5000 + events % 4,
        "played": 40 * odd + draw.integers(10, size=len(events)),
        "period": np.array(["train"] * 6 + ["valid", "test"])[session],
    }
    return pl.DataFrame(columns).with_columns(liked=1, shared=0, long=60)


def test_rsft_recommends_more_of_what_was_watched_long(tmp_path: Path) -> None:
    write_watched(tmp_path / "data", two_kinds(40))
    run = reopened(tmp_path / "data", tmp_path, "recommend.exclude_seen=false")
    run.make("generator")
    train_rsft(run)
    before, after = (
        one.recommend(run.requests("test"), 10, exclude_seen=False).items_CK % 2
        for one in (load_generator(run), load_rsft(run))
    )
    assert before.mean() < 0.65
    assert after.mean() > 0.85


@pytest.mark.parametrize("step", [1, 7, 21])
def test_a_killed_rsft_ends_like_an_uninterrupted_one(
    step: int, watched: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint, in the first epoch, and behind a validation."""
    original = Trainer._step

    def killed_step(trainer: Trainer, rows: np.ndarray) -> Any:
        if trainer.position.step == step:
            raise KeyboardInterrupt
        return original(trainer, rows)

    def trained_on(run: Run) -> tuple[dict[str, Tensor], list[dict[str, Any]], dict[str, Any]]:
        train_rsft(run)
        folder = run.folder / "rsft"
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        log = [{name: value for name, value in line.items() if name not in TIMED} for line in lines]
        return weights_in(folder), log, {**facts_of(folder), "train_seconds": 0}

    whole = trained_on(reopened(watched, runs))
    assert whole[2]["steps"] > 24
    shutil.rmtree(runs / "watched" / "rsft")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", killed_step)
        with pytest.raises(KeyboardInterrupt):
            train_rsft(reopened(watched, runs))
    with pytest.raises(UserError, match="not trained to the end"):
        load_rsft(reopened(watched, runs))
    again = trained_on(reopened(watched, runs))
    assert same(again[0], whole[0])
    assert again[1:] == whole[1:]


def test_recommend_takes_the_generator_after_rsft(
    watched: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["recommend", str(runs / "watched"), "--user", "3", "--count", "15"]
    assert main([*asked, "--rsft"]) == 2
    assert "`onerec rsft` makes one" in capsys.readouterr().err
    assert main(["rsft", *typed(watched), "--runs", str(runs)]) == 0
    capsys.readouterr()
    said = []
    for words in ([], ["--rsft"]):
        assert main([*asked, *words]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] != said[1]
    assert main(["train", *typed(watched, "train.epochs=1"), "--runs", str(runs)]) == 0
    assert main([*asked, "--rsft"]) == 2
    assert "made from another generator than the run's" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--rsft", "--aligned", "ecpo"])


def test_refusals_are_one_line(watched: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusals(arguments: list[str]) -> str:
        capsys.readouterr()
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("onerec: ") and said.count("\n") == 1
        return said

    there, nowhere = ["--runs", str(runs)], ["--runs", str(tmp_path / "none")]
    assert "no generator with the data and config on file; run `onerec train`" in refusals(
        ["rsft", *typed(watched), *nowhere]
    )
    assert "the config says rsft: null" in refusals(["rsft", *typed(watched, "rsft=null"), *there])
    said = refusals(["align", *typed(watched), *there])
    assert "run `onerec rsft` first" in said and str(runs / "watched" / "rsft") in said
    assert not (runs / "watched" / "rsft").exists()

    # All play time is that of what is not liked, so that nothing is left of what is.
    write_watched(tmp_path / "data", watched_events().with_columns(played=pl.col("played") * (1 - pl.col("liked"))))
    words = [*typed(tmp_path / "data", "rsft={session_events: 1, dropped_share: 0.999}"), "--runs", str(tmp_path)]
    assert main(["train", *words]) == 0
    assert "lower rsft.dropped_share" in refusals(["rsft", *words])
    assert not (tmp_path / "watched" / "rsft").exists()
