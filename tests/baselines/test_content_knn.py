"""Content-kNN lists what a plain loop over all items lists."""

import numpy as np
import pytest

from onerec.recommenders.content_knn import HISTORY_EVENTS, ContentKNN

ITEMS = 25


def random_histories(seed: int, cases: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, longest, size=cases)
    return draw.integers(ITEMS, size=lengths.sum()).astype(np.int32), np.concatenate([[0], lengths.cumsum()])


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ITEMS, 4)).astype(np.float32)


def slow_cosines(vectors_ND: np.ndarray, history: np.ndarray, decay: float) -> np.ndarray:
    unit = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    newest = history[-HISTORY_EVENTS:]
    mean = sum(decay ** (len(newest) - 1 - place) * unit[item] for place, item in enumerate(newest))
    return unit @ mean / np.linalg.norm(mean)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("cells", [30, 1 << 22])
def test_lists_equal_a_plain_loop(exclude_seen: bool, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerec.recommenders.content_knn._CELLS_PER_CHUNK", cells)
    histories, offsets = random_histories(1, 12, HISTORY_EVENTS + 15)
    allowed = np.arange(3, ITEMS)
    items, scores = ContentKNN(vectors(), 0.8, allowed).recommend(histories, offsets, 9, exclude_seen)
    for case in range(12):
        history = histories[offsets[case] : offsets[case + 1]]
        cosines = slow_cosines(vectors(), history, 0.8)
        free = [item for item in allowed if not (exclude_seen and item in history)]
        best = sorted(free, key=lambda item: -cosines[item])[:9]
        assert items[case, : len(best)].tolist() == best
        assert (items[case, len(best) :] == -1).all()
        np.testing.assert_allclose(scores[case, : len(best)], cosines[best], atol=1e-5)
        assert np.isneginf(scores[case, len(best) :]).all()


def test_items_that_nothing_tells_apart_are_not_in_the_order_of_their_numbers() -> None:
    same = np.zeros((200, 3), np.float32)
    first, _ = ContentKNN(same, 1.0, seed=1).recommend(np.array([0]), np.array([0, 1]), 200, False)
    again, _ = ContentKNN(same, 1.0, seed=1).recommend(np.array([0]), np.array([0, 1]), 200, False)
    other, _ = ContentKNN(same, 1.0, seed=2).recommend(np.array([0]), np.array([0, 1]), 200, False)
    assert sorted(first[0]) == list(range(200))
    assert abs(np.corrcoef(first[0], np.arange(200))[0, 1]) < 0.3  # 4 standard errors of chance
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
