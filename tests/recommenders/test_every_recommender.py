"""What holds for every recommender: k, seen items, the order of a list, and that requests do not depend on one another."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from generator_cases import make_generator
from request_cases import flat, histories_of, random_histories, requests_of

from onerec.data.candidates import Candidates
from onerec.data.requests import Requests
from onerec.recommenders.cascade import Cascade
from onerec.recommenders.content_knn import ContentKNN
from onerec.recommenders.generator import GeneratorRecommender, GeneratorWithNewItems
from onerec.recommenders.recommender import FittedRecommender, Recommender, TrainedRecommender, TrainingData
from onerec.recommenders.registry import fitted_recommenders, trained_recommenders
from onerec.run.config import BaselinesSection

ITEMS = make_generator().trie.item_count
VECTORS_ND = np.random.default_rng(1).standard_normal((ITEMS, 6)).astype(np.float32)
DATA = TrainingData(*flat(random_histories(2, 40, ITEMS - 10, 12)), ITEMS, lambda: VECTORS_ND, seed=3)
REQUESTS = requests_of(random_histories(4, 20, ITEMS, 60))


class LastDigit:
    """Likes items that end in 9."""

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        return np.where(candidates.found_CK, candidates.items_CK % 10, -np.inf).astype(np.float32)


def generator() -> GeneratorRecommender:
    return GeneratorRecommender(make_generator(), beam_width=ITEMS, batch_size=7)


def with_new_items() -> GeneratorWithNewItems:
    """The last ten items are new; the beam may hold some of them as well."""
    return GeneratorWithNewItems(generator(), ContentKNN(VECTORS_ND, 1.0, np.arange(ITEMS - 10, ITEMS)), 10)


def fitted(kind: type[FittedRecommender]) -> Recommender:
    return kind.fit(getattr(BaselinesSection(), kind.name), DATA)


def untrained(kind: type[TrainedRecommender]) -> Recommender:
    torch.manual_seed(0)
    return kind(kind.build(getattr(BaselinesSection(), kind.name), DATA), batch_size=7)


MAKERS: dict[str, Callable[[], Recommender]] = {
    **{kind.name: partial(fitted, kind) for kind in fitted_recommenders()},
    **{kind.name: partial(untrained, kind) for kind in trained_recommenders()},
    "generator": generator,
    "cascade": lambda: Cascade(generator(), ITEMS, LastDigit()),
    "cascade with new items": lambda: Cascade(with_new_items(), ITEMS + 10, LastDigit()),
}


@pytest.fixture(params=MAKERS)
def recommender(request: pytest.FixtureRequest) -> Recommender:
    return MAKERS[request.param]()


@pytest.mark.parametrize("k", [1, 7, ITEMS + 3])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_list_holds_the_k_best_items_that_may_be_listed(recommender: Recommender, k: int, exclude_seen: bool) -> None:
    """Fewer than k where no more are left, which -1 and -inf tell; excluding seen items changes nothing else."""
    everything = recommender.recommend(REQUESTS, ITEMS, exclude_seen=False)
    lists = recommender.recommend(REQUESTS, k, exclude_seen=exclude_seen)
    assert (lists.items_CK.dtype, lists.scores_CK.dtype) == (np.int32, np.float32)
    assert lists.items_CK.shape == lists.scores_CK.shape == (len(REQUESTS), k)
    for row, history in enumerate(histories_of(REQUESTS)):
        whole, scores = everything.items_CK[row], everything.scores_CK[row]
        assert sorted(whole) == list(range(ITEMS))
        assert (np.diff(scores) <= 0).all()
        allowed = ~np.isin(whole, history) | (not exclude_seen)
        count = min(k, int(allowed.sum()))
        assert lists.items_CK[row, :count].tolist() == whole[allowed][:k].tolist()
        np.testing.assert_allclose(lists.scores_CK[row, :count], scores[allowed][:k], rtol=1e-5, atol=1e-5)
        assert (lists.items_CK[row, count:] == -1).all()
        assert np.isneginf(lists.scores_CK[row, count:]).all()


def test_a_request_does_not_depend_on_the_others(recommender: Recommender) -> None:
    together = recommender.recommend(REQUESTS, 9, exclude_seen=True)
    rows = np.array([13, 2, 2, 19])
    some = recommender.recommend(REQUESTS.pick(rows), 9, exclude_seen=True)
    assert some.items_CK.tolist() == together.items_CK[rows].tolist()
    np.testing.assert_allclose(some.scores_CK, together.scores_CK[rows], rtol=1e-5, atol=1e-5)


def test_lists_without_places_are_refused(recommender: Recommender) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        recommender.recommend(REQUESTS, 0, exclude_seen=True)


def test_names_are_those_of_the_config_and_told_apart() -> None:
    kinds = (*trained_recommenders(), *fitted_recommenders())
    assert sorted(kind.name for kind in kinds) == sorted(BaselinesSection.model_fields)
    assert len({kind.label for kind in kinds}) == len(kinds)
