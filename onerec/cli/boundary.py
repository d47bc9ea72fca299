"""Errors that a command can foresee, in words: PATH: what is wrong; what to do; what is safe."""

import errno
import os

from onerec.errors import UserError
from onerec.terminal import plain
from tokenizer.errors import TokenizerError

SAFE = "what was finished before is as it was"
REMEDIES = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some of your quota and run the command again",
    errno.EROFS: "name a folder on a disk that can be written",
    errno.EACCES: "change its permissions, or name another",
    errno.EPERM: "change its permissions, or name another",
    errno.ENOENT: "check the path",
    errno.EIO: "check the disk",
}
FULL_DISK = ("no space left", "file write failed", "unexpected pos", "requested and", "disk quota")
FULL_MEMORY = ("not enough memory", "out of memory", "can't allocate memory")


def in_words(error: BaseException) -> str | None:
    """A foreseen error as one line without "onerec:", or None for any other."""
    if isinstance(error, UserError | TokenizerError):
        return plain(error)
    text = str(error).lower()
    if any(words in text for words in FULL_DISK) and not isinstance(error, KeyboardInterrupt):
        return f"{_path_of(error)}the disk is full; {REMEDIES[errno.ENOSPC]}; {SAFE}"
    if isinstance(error, MemoryError) or any(words in text for words in FULL_MEMORY):
        return f"not enough memory; lower batch sizes or beam widths, or use a machine with more; {SAFE}"
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        return f"{_path_of(error)}{(error.strerror or str(error)).lower()}; {remedy}; {SAFE}"
    return None


def _path_of(error: BaseException) -> str:
    path = getattr(error, "filename", None)
    return f"{plain(os.fsdecode(path))}: " if isinstance(path, str | bytes | os.PathLike) else ""
