"""The frame of all studies: cells belong to one process and are made once, needs come first, differences are paired."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.study.cells import Cell, Row
from benchmarks.study.samples import entry_of, sample_of, total_seconds
from benchmarks.study.study import Study, chosen_rows, show_and_write, study_parser
from onerec.errors import UserError

ROWS = [Row("d", "base"), Row("d", "reads_base", needs="base"), Row("d", "one_seed", seeds=(2,))]


def cell_with(folder: Path, seed: int, users: np.ndarray, figures: dict[str, np.ndarray], **facts: Any) -> Cell:
    cell = Cell(Row("d", "row"), seed, folder / str(seed))
    seconds = {"training": 60.0, "training_processor": 50.0, "lists": 5.0}
    cell.write({"commit": "abc", "dirty": False, "seconds": seconds, **facts}, {"test": {"users": users, **figures}})
    return cell


def test_a_cell_belongs_to_one_living_process(tmp_path: Path) -> None:
    cell = Cell(ROWS[0], 1, tmp_path / "cell")
    assert cell.claim()
    assert not cell.claim()  # this process holds it, and lives
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (cell.folder / ".claim").write_text(str(dead.pid))
    assert cell.claim()
    assert (cell.folder / ".claim").read_text() == str(os.getpid())
    cell.write({"x": 1}, {"test": {"users": np.arange(3)}})
    assert not cell.claim() and cell.facts == {"x": 1} and cell.has("test") and not cell.has("valid")


def study_of(folder: Path, rows: list[Row], done: list[str]) -> Study:
    def measure(study: Study, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        needed = study.needed(cell)
        done.append(f"{cell.row.name}-{cell.seed}" + (f" after {needed.folder.name}" if needed else ""))
        return {"seconds": {"all": 1.0}, "headline": "NDCG@10 .5"}, {"test": {"users": np.arange(4)}}

    parsed = Namespace(cells=folder, quick=True, seeds=[1, 2])
    return Study.of("generator_ablations", rows, measure, Path("data"), parsed)


def test_missing_cells_are_run_once_and_after_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    study = study_of(tmp_path, ROWS, done)
    study.run_missing(ROWS[1:2])
    assert done == [] and "row base is not finished" in capsys.readouterr().out
    study.run_missing(ROWS)
    study.run_missing(ROWS)
    expected = ["base-1", "reads_base-1 after base-1", "base-2", "reads_base-2 after base-2", "one_seed-2"]
    assert done == expected
    assert "d base seed 1: NDCG@10 .5, 0 s" in capsys.readouterr().out
    assert list(study.finished(ROWS[0])) == [1, 2] and list(study.finished(ROWS[2])) == [2]
    assert study.finished(ROWS[0])[1].folder == tmp_path / "quick" / "d" / "base-1"
    results = study.results([entry_of(study.finished(row)) for row in ROWS], {}, dataset="d")
    assert results["run"]["seconds"] == 5 and results["run"]["quick"] is True and results["run"]["seed"] == [1, 2]
    other = Row("d", "base", settings=("generator.width=3",))
    with pytest.raises(UserError, match="other settings"):
        study_of(tmp_path, [other], done).finished(other)


def test_differences_are_of_the_users_and_seeds_that_both_have(tmp_path: Path) -> None:
    users, draw = np.arange(40), np.random.default_rng(0)
    noise = draw.normal(size=40)
    ours = {
        seed: cell_with(tmp_path / "ours", seed, users[::2], {"figure": noise[::2] + gain, "own": noise[::2]})
        for seed, gain in ((1, 0.1), (2, 0.3))
    }
    theirs = {seed: cell_with(tmp_path / "theirs", seed, users[::-1], {"figure": noise[::-1]}) for seed in (1, 2, 3)}
    found = sample_of(ours, "test").minus(sample_of(theirs, "test"))
    assert found.seeds == [1, 2] and list(found.values) == ["figure"]
    assert found.by_seed() == {"1": {"figure": pytest.approx(0.1)}, "2": {"figure": pytest.approx(0.3)}}
    both, users_alone = found.intervals()["figure"], found.intervals(over_seeds=False)["figure"]
    assert both["value"] == pytest.approx(0.2) == users_alone["value"]
    # Users are paired, so only the seeds differ.
    assert (both["low"], both["high"]) == (pytest.approx(0.1), pytest.approx(0.3))
    assert users_alone["low"] == pytest.approx(0.2) == users_alone["high"]
    nothing = sample_of({3: theirs[3]}, "test").minus(sample_of(ours, "test"))
    assert nothing.seeds == []
    with pytest.raises(ValueError, match="different users"):
        sample_of({1: ours[1], 2: theirs[2]}, "test")


def test_seconds_of_another_clock_count_once(tmp_path: Path) -> None:
    cells = {seed: cell_with(tmp_path, seed, np.arange(3), {}) for seed in (1, 2)}
    entry = entry_of(cells)
    assert entry["seeds"] == [1, 2] and entry["commits"] == ["abc"] and entry["dirty"] is False
    assert total_seconds([entry, {"mode": "no cell of its own"}]) == 2 * 65


def test_the_command_line_names_rows_and_says_when_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    parser = study_parser("decoders", "words", (17,))
    parsed = parser.parse_args(["--out", "x", "--rows", "base"])
    assert parsed.seeds == [17] and parsed.cells == Path("runs/decoders")
    assert chosen_rows(parser, ROWS, parsed.only) == ROWS[:1] and chosen_rows(parser, ROWS, []) == ROWS
    with pytest.raises(SystemExit):
        chosen_rows(parser, ROWS, ["bass"])
    assert "no rows bass; there are base, reads_base, one_seed" in capsys.readouterr().err
    assert show_and_write({"rows": []}, str) == 1
    assert "no cell is finished yet" in capsys.readouterr().out
