"""Content-kNN lists what a plain loop over all items lists."""

import numpy as np
import pytest
from request_cases import random_histories, requests_of

from onerec.recommenders.content_knn import ContentKNN
from onerec.scorers.content_likeness import HISTORY_EVENTS

ITEMS = 25


def slow_cosines(vectors_ND: np.ndarray, history: list[int], decay: float) -> np.ndarray:
    unit = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    newest = history[-HISTORY_EVENTS:]
    mean = sum(decay ** (len(newest) - 1 - place) * unit[item] for place, item in enumerate(newest))
    return unit @ mean / np.linalg.norm(mean)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("cells", [30, 1 << 22])
def test_lists_equal_a_plain_loop(exclude_seen: bool, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerec.recommenders.content_knn.CELLS_PER_CHUNK", cells)
    monkeypatch.setattr("onerec.scorers.content_likeness.CELLS_PER_CHUNK", cells)
    histories = random_histories(1, 12, ITEMS, HISTORY_EVENTS + 15)
    vectors = np.random.default_rng(0).standard_normal((ITEMS, 4)).astype(np.float32)
    allowed = np.arange(3, ITEMS)
    recommender = ContentKNN(vectors, 0.8, allowed)
    lists = recommender.recommend(requests_of(histories), 9, exclude_seen=exclude_seen)
    for items, scores, history in zip(lists.items_CK, lists.scores_CK, histories, strict=True):
        cosines = slow_cosines(vectors, history, 0.8)
        free = [item for item in allowed if not (exclude_seen and item in history)]
        best = sorted(free, key=lambda item: -cosines[item])[:9]
        assert items[: len(best)].tolist() == best
        assert (items[len(best) :] == -1).all()
        np.testing.assert_allclose(scores[: len(best)], cosines[best], atol=1e-5)
        assert np.isneginf(scores[len(best) :]).all()


def test_items_that_nothing_tells_apart_are_not_in_the_order_of_their_numbers() -> None:
    first, again, other = (
        ContentKNN(np.zeros((200, 3), np.float32), 1.0, seed=seed)
        .recommend(requests_of([[0]]), 200, exclude_seen=False)
        .items_CK[0]
        for seed in (1, 1, 2)
    )
    assert sorted(first) == list(range(200))
    assert abs(np.corrcoef(first, np.arange(200))[0, 1]) < 0.3  # 4 standard errors of chance
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
