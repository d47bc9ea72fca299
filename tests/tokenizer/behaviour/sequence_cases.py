"""Training sequences for the tests of behaviour."""

import numpy as np
from hypothesis import strategies as st

ITEMS = 7
sequences = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), max_size=8)


def flat(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, lists)])
    return np.array([item for one in lists for item in one], dtype=np.int32), offsets
