"""Faults of disk, memory and terminal end with one line; what comes from data is never markup."""

import errno
import os
from pathlib import Path

import pytest

from onerec.cli import main
from onerec.cli.boundary import in_words
from onerec.terminal import plain, shown


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG]
)
def test_every_fault_of_the_disk_ends_with_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "events.parquet"))

    monkeypatch.setattr("onerec.data.contract.read_dataset", failing)
    assert main(["data", "check", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"onerec: {tmp_path / 'events.parquet'}: ") and message.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("[enforce fail at inline_container.cc:660] . unexpected pos 64 vs 0"), "the disk is full"),
        (OSError("100 requested and 20 written"), "the disk is full"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 400 bytes"), "not enough memory"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_disguises_of_a_full_disk_and_memory_are_known(error: Exception, words: str) -> None:
    assert words in str(in_words(error))


def test_an_error_that_nobody_foresaw_is_not_hidden() -> None:
    assert in_words(ValueError("a mistake of ours")) is None


def test_what_comes_from_data_is_shown_as_it_is() -> None:
    assert plain("a\x1b[31mb\u202ec\n") == "a\\x1b[31mb\\u202ec\\n"
    assert shown("Song [remix] [/b]") == "Song \\[remix] \\[/b]"
    assert plain("Amélie – 千と千尋") == "Amélie – 千と千尋"


def test_an_import_never_overwrites_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    mine = tmp_path / "mine"
    mine.mkdir()
    pl.DataFrame({"u": [1, 1], "i": [1, 2]}).write_parquet(mine / "events.parquet")
    (mine / "users.parquet").write_text("dear to me")
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    command = ["data", "import", "--user", "u", "--item", "i", "--out", str(mine)]
    assert main([*command, str(mine / "events.parquet")]) == 2
    assert "would overwrite this file" in capsys.readouterr().err
    (tmp_path / "log.csv").write_text("u,i\n1,1\n1,2\n")
    assert main([*command, str(tmp_path / "log.csv")]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
