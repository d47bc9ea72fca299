"""Fitted state as named arrays: text goes into bytes, arrays are checked when they come back. No pickle anywhere."""

import json
from collections.abc import Sequence

import numpy as np

from tokenizer.errors import TokenizerError


def strings_to_array(strings: Sequence[str]) -> np.ndarray:
    """A list of texts as UTF-8 JSON in a uint8 array, which a safetensors file can hold."""
    return np.frombuffer(json.dumps(list(strings), ensure_ascii=False).encode(), dtype=np.uint8)


def array_to_strings(array: np.ndarray) -> list[str]:
    """What `strings_to_array` was given."""
    return [str(text) for text in json.loads(array.tobytes().decode())]


def fitted_array(state: dict[str, np.ndarray], name: str, dimensions: int) -> np.ndarray:
    """state[name]; TokenizerError naming it when it is missing or has another number of dimensions."""
    if name not in state:
        raise TokenizerError(f"fitted content encoder: the array {name!r} is missing; tokenize again.")
    array = np.asarray(state[name])
    if array.ndim != dimensions:
        raise TokenizerError(
            f"fitted content encoder: the array {name!r} has shape {array.shape}, "
            f"expected {dimensions} dimension(s); tokenize again."
        )
    return array


def fitted_strings(state: dict[str, np.ndarray], name: str) -> list[str]:
    """The texts stored under `name`; TokenizerError naming it when they are missing or damaged."""
    try:
        return array_to_strings(fitted_array(state, name, 1))
    except ValueError as error:
        raise TokenizerError(
            f"fitted content encoder: the array {name!r} is damaged ({error}); tokenize again."
        ) from error
