"""RSFT as a stage of `onerec run`: what it leaves is measured, and alignment starts from it."""

from pathlib import Path

from command_line import GENERATOR_ONLY, configured, results_of
from watched_cases import watched_events, write_watched

from onerec.cli import main


def test_alignment_starts_from_the_better_sessions_where_the_config_names_them(tmp_path: Path) -> None:
    write_watched(tmp_path / "data", watched_events(40))
    settings = (
        *GENERATOR_ONLY,
        "selection=null",
        "dataset.positive=liked",
        "tokenizer.alignment=null",
        "rsft.session_gap=2500",
        "rsft.train.epochs=1",
        "reward=null",
        "align.rewards.p_score=0",
        "align.rewards.hit=1",
        "align.rollouts.group_size=4",
        "align.steps=1",
        "after_training=[align]",
    )
    assert main(["run", *configured("watched", tmp_path / "data", *settings), "--runs", str(tmp_path)]) == 0
    results = results_of(tmp_path / "watched")
    assert list(results["models"])[:3] == ["onerec", "onerec_rsft", "onerec_aligned"]
    took = [results["models"][name]["train_seconds"] for name in ("onerec", "onerec_rsft", "onerec_aligned")]
    assert took == sorted(took) and len(set(took)) == 3
    assert results["models"]["onerec_aligned"]["start"] == "rsft"
