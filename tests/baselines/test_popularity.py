from itertools import pairwise

import numpy as np
import pytest

from onerec.baselines import popularity as popularity_module
from onerec.recommenders.popularity import Popularity, best_free_places


def test_counts_decide_and_scores_are_counts() -> None:
    model = Popularity().fit(np.array([2, 2, 2, 0, 0, 3]), np.array([0, 2, 6]), 4)
    items, scores = model.recommend(np.zeros(0, dtype=np.int32), np.array([0, 0]), 4, exclude_seen=True)
    assert items.dtype == np.int32
    assert items.tolist() == [[2, 0, 3, 1]]
    assert scores.tolist() == [[3.0, 2.0, 1.0, 0.0]]


def test_seen_items_leave_the_list_only_when_asked() -> None:
    model = Popularity().fit(np.array([2, 2, 2, 0, 0, 3]), np.array([0, 6]), 4)
    history, offsets = np.array([2, 2, 3, 0]), np.array([0, 3, 3, 4])
    assert model.recommend(history, offsets, 2, exclude_seen=True)[0].tolist() == [[0, 1], [2, 0], [2, 3]]
    assert model.recommend(history, offsets, 2, exclude_seen=False)[0].tolist() == [[2, 0]] * 3


def test_equal_counts_follow_a_seeded_random_order_not_the_items_number() -> None:
    empty, offsets = np.zeros(0, dtype=np.int32), np.array([0, 0])
    orders = [
        Popularity(seed).fit(np.arange(200), np.array([0, 200]), 200).recommend(empty, offsets, 200, True)[0][0]
        for seed in (0, 0, 1)
    ]
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any()
    for order in (orders[0], orders[2]):
        # The rank correlation of two independent orders of 200 has a standard deviation of 0.07.
        assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.3


def test_a_catalogue_that_runs_out_leaves_the_end_unused() -> None:
    model = Popularity().fit(np.array([0, 1, 1]), np.array([0, 3]), 3)
    items, scores = model.recommend(np.array([1, 0, 1]), np.array([0, 2, 3]), 3, exclude_seen=True)
    assert items.tolist() == [[2, -1, -1], [0, 2, -1]]
    assert scores[0].tolist() == [0.0, -np.inf, -np.inf]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    model = Popularity().fit(generator.integers(60, size=200), np.array([0, 200]), 60)
    history, offsets = generator.integers(60, size=90), np.array([0, 5, 5, 50, 51, 90])
    whole = model.recommend(history, offsets, 7, True)
    monkeypatch.setattr(popularity_module, "_CELLS_PER_CHUNK", 1)
    for expected, chunked in zip(whole, model.recommend(history, offsets, 7, True), strict=True):
        assert (expected == chunked).all()
    for row, (start, end) in enumerate(pairwise(offsets)):
        seen = set(history[start:end].tolist())
        assert whole[0][row].tolist() == [item for item in model.order_N.tolist() if item not in seen][:7]


def test_free_places_skip_what_is_taken() -> None:
    places = best_free_places(np.array([0, 0, 0, 2]), np.array([0, 1, 9, 2]), 3, 3, 10)
    assert places.tolist() == [[2, 3, 4], [0, 1, 2], [0, 1, 3]]


def test_sequences_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="items must lie in"):
        Popularity().fit(np.array([0, 4]), np.array([0, 2]), 4)
    with pytest.raises(ValueError, match="offsets must rise"):
        Popularity().fit(np.array([0, 1]), np.array([0, 1]), 4)
    with pytest.raises(ValueError, match="at least 1"):
        Popularity().fit(np.array([0, 1]), np.array([0, 2]), 4).recommend(np.array([0]), np.array([0, 1]), 0, True)
