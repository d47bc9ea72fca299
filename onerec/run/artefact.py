"""The artefact of a stage: a folder, and a small file in it that says what the artefact was made from.

The key is a hash of config and inputs. A finished stage with the same key on file is skipped. An unfinished one with the same key
resumes from its checkpoint. `stage.json` holds the hash of every file. An artefact whose files have changed counts as not done.

A finished artefact is never touched before its successor is complete. The successor is made in `.NAME.new` beside it and takes
its place when it is finished. So a command that is refused, stopped or killed leaves what was there.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onerec.errors import UserError
from onerec.files import is_temporary, read_sealed, write_sealed
from tokenizer.common.integrity import first_difference, hashes_of, sync

STAGE_FILE = "stage.json"
CHECKPOINT_FILE = "checkpoint.pt"
TRACKER_FOLDER = "wandb"  # the tracker writes and syncs there later, so its files have no hashes
KEY_LENGTH = 64  # hex digits of a SHA-256


def key_of(*parts: Any) -> str:
    """A SHA-256 of plain JSON values. Equal configs and inputs give equal keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Artefact:
    """The folder and key of a stage.

    Args:
        folder: of the finished artefact.
        key: of config and inputs, see `key_of`.
        recipe: the key of the config alone, for an artefact that can grow with the dataset.
    """

    def __init__(self, folder: Path, key: str, recipe: str = "") -> None:
        self.folder, self.key, self.recipe = folder, key, recipe
        self._new = folder.with_name(f".{folder.name}.new")
        self._old = folder.with_name(f".{folder.name}.old")
        self._began = time.perf_counter()

    # -- what is on disk ----------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the artefact on disk is finished, has this key, and every file is the one that was made."""
        return _record(self.folder).get("key") == self.key and self.problem is None

    @property
    def problem(self) -> str | None:
        """What is wrong with the artefact on disk, whatever its key: unfinished, or a changed file. None if it is intact."""
        if not (self.folder / STAGE_FILE).exists():
            return f"{self.folder}: not there, or not made by this program"
        record = _record(self.folder)
        if not record:
            return f"{self.folder / STAGE_FILE}: damaged, or written by an earlier version"
        return first_difference(self.folder, record["files"]) if record["finished"] else f"{self.folder}: not finished"

    @property
    def damage(self) -> str | None:
        """The problem of an artefact that was finished with this key; None if there is no such artefact or it is intact."""
        record = _record(self.folder)
        return self.problem if record.get("key") == self.key and record["finished"] else None

    @property
    def same_recipe(self) -> bool:
        """Whether the artefact on disk is intact and has this recipe, whatever data it was made from."""
        return bool(self.recipe) and _record(self.folder).get("recipe") == self.recipe and self.problem is None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that the stage took, all attempts together; 0 if it is not finished with this key."""
        return self.seconds_on_file if self.done else 0.0

    @property
    def seconds_on_file(self) -> float:
        """The same for whatever finished artefact is on disk."""
        return float(_record(self.folder).get("seconds", 0.0))

    @property
    def seconds_at_stake(self) -> float:
        """Seconds of work, done with another key, that would be deleted if this artefact was made now."""
        if self.done:
            return 0.0
        return sum(_seconds_spent(folder) for folder in (self.folder, self._new) if self._is_other(folder))

    def _is_other(self, folder: Path) -> bool:
        return _record(folder).get("key", self.key) != self.key

    # -- making it ----------------------------------------------------------------------------------------------------

    @property
    def working(self) -> Path:
        """Where the artefact is made: in its place, or beside it while something else stands there."""
        record = _record(self.folder)
        free = not record["finished"] if record else not any(_content(self.folder))
        return self.folder if free else self._new

    def recover(self) -> None:
        """End the swap of a command that was killed in the middle of it. Nobody else may be changing the folder."""
        made = _record(self._new)
        if made and made["finished"] and made["key"] == self.key:
            self._swap_in()
        elif self._old.exists() and not self.folder.exists():
            self._old.rename(self.folder)

    def begin(self) -> Path:
        """Prepare the folder to work in: an unfinished attempt with the same key, or else an empty folder.

        Raises:
            UserError: the artefact's place holds files of somebody else, which are left alone.
        """
        self._check_ours()
        working = self.working
        if _record(working).get("key") != self.key or _record(working)["finished"]:
            if working.exists():
                shutil.rmtree(working)  # `_check_ours` has seen that it is empty or ours
            working.mkdir(parents=True)
            write_sealed(working / STAGE_FILE, {"key": self.key, "finished": False, "began": time.time()})
        for path in list(working.rglob("*")):
            if is_temporary(path):
                path.unlink(missing_ok=True)
        self._began = time.perf_counter()
        return working

    def finish(self, seconds: float | None = None) -> None:
        """Mark the artefact as finished and put it in its place. What was there is deleted.

        Args:
            seconds: what all attempts took; None: the time since `begin`.
        """
        working = self.working
        taken = time.perf_counter() - self._began if seconds is None else seconds
        left_out = (working / CHECKPOINT_FILE, working / TRACKER_FOLDER)
        found = (path for path in _content(working) if path.is_file() and not path.is_symlink())
        files = [path for path in found if path not in left_out and left_out[1] not in path.parents]
        for path in {*files, *(path.parent for path in files)}:
            sync(path)
        content = {"key": self.key, "recipe": self.recipe, "finished": True, "seconds": taken}
        write_sealed(working / STAGE_FILE, {**content, "files": hashes_of(working, files)})
        if working != self.folder:
            self._swap_in()
        (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)

    def give_up(self) -> None:
        """Remove an attempt that failed before it had made anything."""
        working = self.working
        if _record(working).get("key") == self.key and not any(_content(working)):
            shutil.rmtree(working)

    def _swap_in(self) -> None:
        if self._old.exists():  # left by a command that was killed while it deleted
            shutil.rmtree(self._old)
        if self.folder.exists():
            self.folder.rename(self._old)
        self._new.rename(self.folder)
        sync(self.folder.parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def _check_ours(self) -> None:
        for folder in (self.folder, self._new, self._old):
            if any(_content(folder)) and not _is_ours(folder):
                raise UserError(
                    f"{folder}: in the way of the stage's files, and not made by this program (no readable {STAGE_FILE}); "
                    "move it elsewhere or choose another name=…; it was left as it is"
                )


def check_intact(folder: Path) -> None:
    """Raise UserError unless a folder holds a finished artefact, of whatever key, with the files that were made."""
    if problem := Artefact(folder, "").problem:
        raise UserError(f"{problem}; run the command that made it again")


def _record(folder: Path) -> dict[str, Any]:
    """What `stage.json` says; empty if there is none that can be relied on."""
    content = read_sealed(folder / STAGE_FILE) or {}
    return {"files": {}, **content} if {"key", "finished"} <= content.keys() else {}


def _is_ours(folder: Path) -> bool:
    """Whether a folder was made as an artefact, even if its `stage.json` was damaged since or is of an earlier version."""
    try:
        content = json.loads((folder / STAGE_FILE).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and len(str(content.get("key", ""))) == KEY_LENGTH


def _content(folder: Path) -> Iterator[Path]:
    """The files of an artefact. Those of artefacts inside it have a `stage.json` of their own."""
    if not folder.is_dir():
        if folder.exists():
            yield folder
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if not (path / STAGE_FILE).exists():
                yield from _content(path)
        elif path.name != STAGE_FILE and not is_temporary(path):
            yield path


def _seconds_spent(folder: Path) -> float:
    """What a finished artefact took. For an unfinished one: from its beginning to the last time that a file was written."""
    record = _record(folder)
    if record["finished"]:
        return float(record["seconds"])
    written = [path.stat().st_mtime for path in _content(folder)]
    return max([0.0, *(time_ - float(record["began"]) for time_ in written)])
