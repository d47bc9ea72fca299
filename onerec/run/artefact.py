"""The artefact of a stage: a folder, and a small file in it that says what the artefact was made from.

The key is a hash of config and inputs. A finished stage with the same key on file is skipped. An unfinished one with the same key
resumes from its checkpoint. With another key the stage starts with an empty folder. The former content is deleted when the stage
finishes, and comes back if the stage refuses its input before it has made anything.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from onerec.files import write_json

STAGE_FILE = "stage.json"


def key_of(*parts: Any) -> str:
    """A SHA-256 of plain JSON values. Equal configs and inputs give equal keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Artefact:
    """The folder and key of a stage.

    Args:
        folder: of the stage; everything in it belongs to the stage.
        key: of config and inputs, see `key_of`.
        recipe: the key of the config alone, for an artefact that can grow with the dataset.
    """

    def __init__(self, folder: Path, key: str, recipe: str = "") -> None:
        self.folder, self.key, self.recipe = folder, key, recipe
        self._began = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether the artefact on disk is finished and has this key."""
        on_file = self._on_file()
        return on_file.get("key") == self.key and on_file.get("finished") is True

    @property
    def same_recipe(self) -> bool:
        """Whether the artefact on disk is finished and has this recipe, whatever data it was made from."""
        on_file = self._on_file()
        return bool(self.recipe) and on_file.get("recipe") == self.recipe and on_file.get("finished") is True

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that the stage took, all attempts together; 0 if it is not finished with this key."""
        return self.seconds_on_file if self.done else 0.0

    @property
    def seconds_on_file(self) -> float:
        """The same for whatever artefact is on disk."""
        return float(self._on_file().get("seconds", 0.0))

    def begin(self) -> None:
        """Prepare the folder: empty, unless an unfinished attempt with the same key can be resumed."""
        on_file = self._on_file()
        if (on_file.get("key") != self.key or on_file.get("finished")) and self.folder.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            self.folder.rename(self._replaced)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / STAGE_FILE, {"key": self.key, "finished": False})
        self._began = time.perf_counter()

    def finish(self, seconds: float | None = None) -> None:
        """Mark the artefact as finished. `seconds` is what all attempts took; None: the time since `begin`."""
        taken = time.perf_counter() - self._began if seconds is None else seconds
        content = {"key": self.key, "recipe": self.recipe, "finished": True, "seconds": taken}
        write_json(self.folder / STAGE_FILE, content)
        shutil.rmtree(self._replaced, ignore_errors=True)

    def give_up(self) -> None:
        """Undo `begin` if nothing was made since: the former content comes back."""
        if [path.name for path in self.folder.iterdir()] == [STAGE_FILE]:
            shutil.rmtree(self.folder)
            if self._replaced.exists():
                self._replaced.rename(self.folder)

    @property
    def _replaced(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.replaced")

    def _on_file(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / STAGE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
