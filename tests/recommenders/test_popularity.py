"""Popularity lists what a plain loop over items by their counts lists."""

import numpy as np
import pytest
from request_cases import random_histories, requests_of

from onerec.data.item_order import PopularityOrder
from onerec.recommenders import popularity as popularity_module
from onerec.recommenders.popularity import Popularity, best_free_places


def counted(events: list[int], items: int) -> Popularity:
    return Popularity(PopularityOrder.count(np.array(events), items, seed=0))


def test_counts_decide_and_scores_are_counts() -> None:
    lists = counted([2, 2, 2, 0, 0, 3], 4).recommend(requests_of([[]]), 4, exclude_seen=True)
    assert lists.items_CK.tolist() == [[2, 0, 3, 1]]
    assert lists.scores_CK.tolist() == [[3.0, 2.0, 1.0, 0.0]]


@pytest.mark.parametrize("cells", [1, 1 << 22])
def test_chunks_do_not_change_the_result(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popularity_module, "_CELLS_PER_CHUNK", cells)
    recommender = counted(np.random.default_rng(0).integers(60, size=200).tolist(), 60)
    histories = random_histories(1, 20, 60, 45, shortest=0)
    lists = recommender.recommend(requests_of(histories), 7, exclude_seen=True)
    for items, history in zip(lists.items_CK.tolist(), histories, strict=True):
        assert items == [item for item in recommender.order.order_N.tolist() if item not in history][:7]


def test_free_places_skip_what_is_taken() -> None:
    places = best_free_places(np.array([0, 0, 0, 2]), np.array([0, 1, 9, 2]), 3, 3, 10)
    assert places.tolist() == [[2, 3, 4], [0, 1, 2], [0, 1, 3]]


def test_histories_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match="items must lie in"):
        counted([0, 1], 4).recommend(requests_of([[4]]), 2, exclude_seen=True)
