"""What a run does with its stages, shown on stages that write a line."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from onerec.errors import UserError
from onerec.run.artefact import Artefact, key_of
from onerec.run.config import RunConfig
from onerec.run.run import Facts, Run, Stage

CONFIG = RunConfig.model_validate({"name": "lines", "dataset": {"folder": "nowhere"}})


class Line(Stage):
    """Appends a line to a file, and its name to a log."""

    def __init__(self, name: str, log: list[str], *, setting: object = 0, **attributes: Any) -> None:
        self.name = self.kind = name
        self.log, self.setting = log, setting
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    wanted, killed, wrong = True, False, False

    def asked(self, run: Run) -> bool:
        return self.wanted

    def check(self, run: Run) -> None:
        if self.wrong:
            raise UserError(f"{self.name} cannot work")

    def recipe(self, run: Run) -> tuple[Any, ...]:
        return (self.setting,)

    def make(self, run: Run, folder: Path) -> Facts:
        self.log.append(self.name)
        with (folder / "lines.txt").open("a") as file:
            file.write("line\n")
        (folder / "checkpoint.pt").touch()
        if self.killed:
            raise KeyboardInterrupt
        return {"train_seconds": 12.5}


def run_of(folder: Path, *stages: Stage) -> Run:
    return Run(CONFIG, folder, {stage.name: stage for stage in stages})


def four(log: list[str], **settings: object) -> list[Line]:
    """a, then b that needs it, then c that needs b, and d that comes after a without depending on it."""
    needs = {"a": {}, "b": {"needs": ("a",)}, "c": {"needs": ("b",)}, "d": {"after": ("a",)}}
    return [Line(name, log, setting=settings.get(name, 0), **more) for name, more in needs.items()]


def test_what_a_stage_needs_is_made_first_and_once(tmp_path: Path) -> None:
    log: list[str] = []
    run = run_of(tmp_path, *four(log))
    assert run.make("c") == tmp_path / "c"
    assert log == ["a", "b", "c"]
    run.make("d")
    assert log == ["a", "b", "c", "d"]
    run.make_all()
    run_of(tmp_path, *four(log)).make_all()
    assert log == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("changed", "redone"), [("a", "abc"), ("b", "bc"), ("c", "c"), ("d", "d")])
def test_a_changed_recipe_redoes_the_stage_and_what_needs_it(changed: str, redone: str, tmp_path: Path) -> None:
    log: list[str] = []
    first = run_of(tmp_path, *four(log))
    first.make_all()
    log.clear()
    second = run_of(tmp_path, *four(log, **{changed: 1}))
    second.make_all()
    assert log == list(redone)
    assert {name for name in second.stages if first.key(name) != second.key(name)} == set(redone)
    assert [(tmp_path / name / "lines.txt").read_text() for name in "abcd"] == ["line\n"] * 4, "folders were emptied"


def test_a_key_is_a_hash_of_kind_needs_and_recipe_and_not_of_the_folder(tmp_path: Path) -> None:
    a, b, c, _ = four([])
    other = Line("other", [], needs=("a",), kind="b")
    run = run_of(tmp_path, a, b, c, other)
    assert run.key("a") == key_of("a", 0)
    assert run.key("b") == run.key("other") == key_of("b", key_of("a", 0), 0)
    assert run.key("c") == key_of("c", run.key("b"), 0)


def test_a_killed_stage_goes_on_and_its_facts_are_kept(tmp_path: Path) -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path, Line("a", log, killed=True)).make("a")
    assert not run_of(tmp_path, Line("a", log)).artefact("a").done
    assert (tmp_path / "a" / "checkpoint.pt").exists()
    run = run_of(tmp_path, Line("a", log))
    assert (run.make("a") / "lines.txt").read_text() == "line\nline\n"
    assert run.artefact("a").done and run.artefact("a").seconds == 12.5
    assert '"train_seconds": 12.5' in (tmp_path / "a" / "training.json").read_text()
    assert not (tmp_path / "a" / "checkpoint.pt").exists()


def test_all_that_is_asked_is_made_and_checked_before(tmp_path: Path) -> None:
    log: list[str] = []
    quiet = Line("quiet", log, stored=False)
    unasked = Line("unasked", log, wanted=False, wrong=True)
    run_of(tmp_path, Line("a", log), unasked, quiet, Line("b", log)).make_all()
    assert log == ["a", "b"]
    run_of(tmp_path, Line("c", log), Line("d", log)).make_all(["d"])
    assert log == ["a", "b", "d"]
    with pytest.raises(UserError, match="f cannot work"):
        run_of(tmp_path, Line("e", log), Line("f", log, wrong=True)).make_all()
    assert log == ["a", "b", "d"], "nothing is made where something would fail"


class Process:
    """Stands for one of two processes; each is a thread here."""

    num_processes = 2

    def __init__(self, is_main_process: bool, barrier: Barrier) -> None:
        self.is_main_process, self.barrier = is_main_process, barrier

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        if not self.is_main_process:
            self.wait_for_everyone()
        yield
        if self.is_main_process:
            self.wait_for_everyone()

    def wait_for_everyone(self) -> None:
        self.barrier.wait(timeout=10)  # for a process that never comes: BrokenBarrierError


@pytest.mark.parametrize("late", [True, False], ids=["the main process is late", "the other process is late"])
def test_two_processes_share_the_work_and_wait_for_each_other(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, barrier = Artefact.finish, Barrier(2)

    def slowly(self: Artefact, *seconds: float) -> None:
        time.sleep(0.1)
        finish(self, *seconds)

    monkeypatch.setattr(Artefact, "finish", slowly)

    def work(main: bool) -> list[str]:
        log: list[str] = []
        first, data = Line("first", log, processes="first"), Line("data", log, processes="first", after=("first",))
        both = Line("both", log, processes="all", needs=("data",))
        alone, again = Line("alone", log, needs=("both", "data")), Line("again", log, processes="all", needs=("both",))
        run = run_of(tmp_path, first, data, both, alone, again)
        run.__dict__["state"] = Process(main, barrier)
        for name in run.stages:
            if main == late:
                time.sleep(0.1)
            run.make_all([name])
        run.make_all()
        return log

    with ThreadPoolExecutor(2) as threads:
        main, other = (result.result() for result in [threads.submit(work, True), threads.submit(work, False)])
    assert main == ["first", "data", "both", "alone", "again"]
    assert other == ["both", "again"]
