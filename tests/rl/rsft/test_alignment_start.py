"""With a section rsft, alignment starts from the generator after RSFT, by its command and in `onerec run`."""

from pathlib import Path
from typing import Any

import pytest
from command_line import results_of
from rsft_cases import facts_of, reopened, same, typed, weights_in

import rl.alignment.stage
from onerec.cli import main
from onerec.errors import UserError
from onerec.model.generator import Generator
from rl.alignment.evaluation import AFTER, BEFORE, RSFT, evaluate_alignment, evaluate_rsft
from rl.alignment.loop import AlignLoop
from rl.alignment.stage import align_generator, load_aligned
from rl.rsft.sessions import ChosenTargets
from rl.rsft.stage import train_rsft


@pytest.mark.parametrize("pathways", [False, True])
def test_alignment_starts_from_rsft(pathways: bool, watched: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = ("align.learning_rate=1e-12",)  # where it starts is then where it ends
    run = reopened(watched, runs, *still, pathways=pathways)
    run.make("generator")
    with pytest.raises(UserError, match="run `onerec rsft` first"):
        align_generator(run)
    train_rsft(run)
    read: list[Any] = []

    class RecordedLoop(AlignLoop):
        def __init__(self, policy: Generator, windows: Any, *rest: Any, **named: Any) -> None:
            read.append(windows)
            super().__init__(policy, windows, *rest, **named)

    monkeypatch.setattr(rl.alignment.stage, "AlignLoop", RecordedLoop)
    align_generator(run)
    assert isinstance(read[0], ChosenTargets)
    facts = facts_of(run.folder / "rsft")
    assert read[0].target_counts.sum() == facts["targets"] - facts["dropped_targets"]
    start, rsft, aligned = (weights_in(run.folder / name) for name in ("generator", "rsft", "aligned_ecpo"))
    assert same(aligned, rsft, tolerance=1e-6)
    assert not same(aligned, start, tolerance=1e-4)
    results = evaluate_alignment(run, "a test")
    assert list(results["models"]) == [RSFT, AFTER]
    assert results["models"][RSFT]["test"] == evaluate_rsft(run, "a test")["models"][RSFT]["test"]
    assert load_aligned(run, "ecpo").generator.levels == 2

    # Without the section alignment is another one, from the trained generator.
    plain = reopened(watched, runs, *still, "rsft=null", pathways=pathways)
    align_generator(plain)
    assert same(weights_in(plain.folder / "aligned_ecpo"), start, tolerance=1e-6)
    assert facts_of(plain.folder / "aligned_ecpo")["start"] == "generator"
    assert list(evaluate_alignment(plain, "a test")["models"]) == [BEFORE, AFTER]


def test_settings_of_rsft_change_its_key_and_that_of_alignment(watched: Path, runs: Path) -> None:
    def keys(*overrides: str) -> tuple[str, str]:
        run = reopened(watched, runs, *overrides)
        return run.key("rsft"), run.key("aligned_ecpo")

    rsft, align = keys()
    for override in (
        "rsft.dropped_share=0.4",
        "rsft.session_gap=2000",
        "rsft.train.epochs=2",
        "train.epochs=3",
        "seed=4",
    ):
        others = keys(override)
        assert others[0] != rsft and others[1] != align
    assert keys("align.steps=3")[0] == rsft
    assert reopened(watched, runs, "rsft=null").key("aligned_ecpo") != align


def test_alignment_starts_from_the_better_sessions_where_the_config_names_them(watched: Path, tmp_path: Path) -> None:
    settings = typed(watched, "rsft.train.epochs=1", "align.steps=1", "after_training=[align]")
    assert main(["run", *settings, "--runs", str(tmp_path)]) == 0
    results = results_of(tmp_path / "watched")
    assert list(results["models"])[:3] == ["onerec", "onerec_rsft", "onerec_aligned"]
    took = [results["models"][name]["train_seconds"] for name in ("onerec", "onerec_rsft", "onerec_aligned")]
    assert took == sorted(took) and len(set(took)) == 3
    assert results["models"]["onerec_aligned"]["start"] == "rsft"
