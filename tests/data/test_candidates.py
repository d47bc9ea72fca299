"""The best candidates against a sort in plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onerec.data.candidates import Candidates, best_of


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 4))
def test_the_best_are_taken_in_order_and_equal_ones_keep_theirs(seed: int, k: int, requests: int) -> None:
    draw = np.random.default_rng(seed)
    items_CK = np.array([draw.permutation(20)[:6] for _ in range(requests)], np.int32).reshape(-1, 6)
    items_CK[draw.random(items_CK.shape) < 0.3] = -1
    scores_CK = np.where(items_CK >= 0, draw.integers(-2, 3, items_CK.shape), -np.inf).astype(np.float32)
    best = best_of(Candidates(items_CK, np.zeros_like(scores_CK)), scores_CK, k)
    for row in range(requests):
        pairs = [
            (int(item), float(score)) for item, score in zip(items_CK[row], scores_CK[row], strict=True) if item >= 0
        ]
        expected = sorted(pairs, key=lambda pair: -pair[1])[:k]
        expected += [(-1, -np.inf)] * (k - len(expected))
        assert list(zip(best.items_CK[row].tolist(), best.scores_CK[row].tolist(), strict=True)) == expected
    assert best.found_CK.tolist() == (best.items_CK >= 0).tolist()
    assert (best.items_CK.dtype, best.scores_CK.dtype, best.items_CK.shape) == (np.int32, np.float32, (requests, k))
