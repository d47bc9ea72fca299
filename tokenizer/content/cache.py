"""A cache of embeddings on disk. Content (text or file bytes), model and settings make the key.

The folder is the environment variable ONEREC_CACHE, else `onerec` in XDG_CACHE_HOME, else ~/.cache/onerec. In it,
`embeddings/<hash of model and settings>/` holds shards. A shard is a SHA-256 of the rest of the file, then two arrays in
NumPy's own format: the keys [M,32] and the vectors [M,D]. Shards are written under a temporary name, renamed and never
changed, so any number of processes may read and write at once; at worst, two of them embed the same item. A shard with a
wrong hash is ignored, and its items are embedded again.
"""

import contextlib
import hashlib
import io
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tokenizer.content.progress import progress

SHARD_SUFFIX = ".shard"
MERGE_ABOVE = 32  # a folder with more small shards than this has them merged
SHARD_ROWS = 65_536  # a shard with at least this many rows is not merged


def cache_folder() -> Path:
    """The folder of the cache; see the top of this file."""
    chosen = os.environ.get("ONEREC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onerec"


def content_key(content: bytes) -> bytes:
    """SHA-256 of the content of an item."""
    return hashlib.sha256(content).digest()


Advance = Callable[[int], None]  # called with the number of items just finished, for the progress bar


def cached_vectors(
    keys: list[bytes], maker: str, embed: Callable[[list[int], Advance], np.ndarray], *, rows_at_once: int, what: str
) -> np.ndarray:
    """One vector per key, float32 [N,D], from the cache or else from `embed`.

    keys: `content_key` of each item, at least one. maker: model and settings, which also determine the vector. embed: takes
    positions in `keys` and returns float32 [len(positions), D]. It is called with at most `rows_at_once` different keys, and
    their vectors are stored at once, so an interruption loses only those. what: label of the progress bar.
    """
    folder = cache_folder() / "embeddings" / hashlib.sha256(maker.encode()).hexdigest()[:32]
    position: dict[bytes, int] = {}  # of the first item with each key
    for number, key in enumerate(keys):
        position.setdefault(key, number)
    slot = {key: number for number, key in enumerate(position)}
    vectors_UD, known_U = _look_up(folder, slot)
    missing = [key for key, number in slot.items() if not known_U[number]]
    with progress(what, len(missing)) as advance:
        for start in range(0, len(missing), rows_at_once):
            part = missing[start : start + rows_at_once]
            part_MD = np.asarray(embed([position[key] for key in part], advance), dtype=np.float32)
            _store(folder, part, part_MD)
            if vectors_UD is None:
                vectors_UD = np.empty((len(slot), part_MD.shape[1]), dtype=np.float32)
            vectors_UD[[slot[key] for key in part]] = part_MD
    if missing:
        _merge_small_shards(folder)
    assert vectors_UD is not None  # there is at least one key
    return vectors_UD if len(slot) == len(keys) else vectors_UD[[slot[key] for key in keys]]


def _look_up(folder: Path, slot: dict[bytes, int]) -> tuple[np.ndarray | None, np.ndarray]:
    """Vectors of the wanted keys, each in its slot (None when the cache has none of them), and which slots are filled."""
    vectors_UD: np.ndarray | None = None
    known_U = np.zeros(len(slot), dtype=bool)
    for _, keys, vectors_MD in _shards(folder):
        rows = [row for row, key in enumerate(keys) if key in slot]
        if rows and vectors_UD is None:
            vectors_UD = np.empty((len(slot), vectors_MD.shape[1]), dtype=np.float32)
        if rows and vectors_UD is not None:
            slots = [slot[keys[row]] for row in rows]
            vectors_UD[slots], known_U[slots] = vectors_MD[rows], True
    return vectors_UD, known_U


def _shards(folder: Path) -> Iterator[tuple[Path, list[bytes], np.ndarray]]:
    for path in sorted(folder.glob(f"*{SHARD_SUFFIX}")):
        try:
            data = path.read_bytes()
        except OSError:  # merged by another process since the folder was listed
            continue
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            continue
        stream = io.BytesIO(data[32:])
        keys = np.lib.format.read_array(stream, allow_pickle=False).tobytes()
        vectors_MD = np.lib.format.read_array(stream, allow_pickle=False)
        yield path, [keys[start : start + 32] for start in range(0, len(keys), 32)], vectors_MD


def _store(folder: Path, keys: list[bytes], vectors_MD: np.ndarray) -> bool:
    """Write a shard. Return False, with a warning, when the disk refuses it: the next run then embeds these items again."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32), allow_pickle=False)
    np.lib.format.write_array(stream, np.ascontiguousarray(vectors_MD), allow_pickle=False)
    data = stream.getvalue()
    name = f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = folder / f".{name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
        os.replace(temporary, folder / f"{name}{SHARD_SUFFIX}")
    except OSError as error:
        warnings.warn(
            f"{folder}: the cache cannot store embeddings ({error}); set ONEREC_CACHE to another folder", stacklevel=2
        )
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _merge_small_shards(folder: Path) -> None:
    """Merge small shards into one. Another process that listed the old ones finds them gone and embeds those items again."""
    if sum(1 for _ in folder.glob(f"*{SHARD_SUFFIX}")) <= MERGE_ABOVE:
        return
    merged: dict[bytes, np.ndarray] = {}
    old = []
    for path, keys, vectors_MD in _shards(folder):
        if len(keys) < SHARD_ROWS:
            merged.update(zip(keys, vectors_MD, strict=True))
            old.append(path)
    if len(old) > MERGE_ABOVE and _store(folder, list(merged), np.stack(list(merged.values()))):
        for path in old:
            path.unlink(missing_ok=True)
