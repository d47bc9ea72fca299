"""Fitted state as named arrays. Text is stored as bytes, and arrays are checked when loaded. No pickle."""

import json
from collections.abc import Sequence

import numpy as np

from tokenizer.errors import TokenizerError


def strings_to_array(strings: Sequence[str]) -> np.ndarray:
    """Store texts as UTF-8 JSON in a uint8 array, which fits into a safetensors file."""
    return np.frombuffer(json.dumps(list(strings), ensure_ascii=False).encode(), dtype=np.uint8)


def fitted_array(state: dict[str, np.ndarray], name: str, dimensions: int) -> np.ndarray:
    """Return state[name]; TokenizerError when it is missing or has another number of dimensions."""
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
    """Return the texts that `strings_to_array` stored under `name`; TokenizerError when they are missing or damaged."""
    try:
        return [str(text) for text in json.loads(fitted_array(state, name, 1).tobytes().decode())]
    except ValueError as error:
        raise TokenizerError(
            f"fitted content encoder: the array {name!r} is damaged ({error}); tokenize again."
        ) from error


def below(prefix: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays named `prefix.name`, under `name`."""
    return {name.removeprefix(f"{prefix}."): array for name, array in state.items() if name.startswith(f"{prefix}.")}
