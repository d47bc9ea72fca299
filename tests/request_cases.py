"""Requests made by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onerec.data.requests import Requests


def requests_of(histories: Sequence[Sequence[int]], targets: Sequence[int] | np.ndarray | None = None) -> Requests:
    """Requests whose histories are all that is known; with the items that were taken next where `targets` names them."""
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    asked = Requests.of_histories(items, np.cumsum([0, *map(len, histories)]))
    return asked if targets is None else replace(asked, targets_C=np.asarray(targets, dtype=np.int32))
