"""The selection scorer learns what users go by and falls back on the generator, and its lists come from the beam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from request_cases import requests_of

from onerec.data.candidates import Candidates, Lists
from onerec.data.requests import Requests
from onerec.data.split import even_rows
from onerec.recommenders.cascade import Cascade
from onerec.recommenders.content_knn import ContentKNN
from onerec.recommenders.generator import GeneratorWithNewItems
from onerec.scorers.linear_weights import LinearWeights
from onerec.scorers.selection import FittingRequests, SelectionScorer, fit_selection, fitting_requests

BEAM = 40


class Beam:
    """Stands for a generator: its beam holds items 0 .. 39, the lower the likelier."""

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Candidates:
        return self.judge(requests, k, None, exclude_seen=exclude_seen)

    def judge(self, requests: Requests, k: int, others: Lists | None, *, exclude_seen: bool) -> Candidates:
        """Every history is one item."""
        free_CB = np.tile(np.arange(BEAM, dtype=np.int32), (len(requests), 1))
        seen_CB = (free_CB == requests.history_items[:, None]) & exclude_seen
        free_CB[seen_CB], count = BEAM, BEAM - exclude_seen
        items_CK = np.sort(free_CB, axis=1)[:, :count][:, :k]
        items_CK = np.pad(items_CK, ((0, 0), (0, k - items_CK.shape[1])), constant_values=-1)
        scores_CK = np.where(items_CK >= 0, -items_CK, -np.inf).astype(np.float32)
        if others is not None:
            items_CK = np.concatenate([items_CK, others.items_CK], axis=1)
            scores_CK = np.concatenate([scores_CK, np.full(others.items_CK.shape, -99, np.float32)], axis=1)
        return Candidates(items_CK, scores_CK)


@dataclass
class Columns:
    """Stands for features: the log-probability and what a function says of requests and items."""

    more: dict[str, Callable[[Requests, np.ndarray], np.ndarray]]
    new: frozenset[int] = frozenset()

    @property
    def names(self) -> list[str]:
        return ["log_probability", *self.more]

    def is_new(self, items: np.ndarray) -> np.ndarray:
        return np.isin(items, list(self.new))

    def of(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        columns = [candidates.scores_CK, *(column(requests, candidates.items_CK) for column in self.more.values())]
        return np.stack([np.where(candidates.found_CK, column, 0) for column in columns], axis=-1).astype(np.float32)


def digit(requests: Requests, items_CK: np.ndarray) -> np.ndarray:
    return items_CK % 10


LAST_DIGIT: Any = Columns({"digit": digit})


def digit_requests(seed: int, count: int) -> Requests:
    """Users who take an item below 40 that ends in 7, 8 or 9, and have seen one other item."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(4, size=count) * 10 + draw.integers(7, 10, size=count)
    seen = (targets + draw.integers(1, 40, size=count)) % 40
    return requests_of([[item] for item in seen], targets)


def fitted(features: Any, requests: Requests) -> tuple[SelectionScorer, dict[str, Any]]:
    """Fitted on all requests, each once."""
    every = FittingRequests(requests, np.ones(len(requests)), np.ones(len(requests), bool))
    return fit_selection(Beam().recommend(requests, BEAM, exclude_seen=True), features, every)


def test_selection_finds_what_the_order_of_the_beam_misses() -> None:
    scorer, figures = fitted(LAST_DIGIT, digit_requests(0, 400))
    assert figures["cases"] == 400
    assert figures["proposed"] == 1.0
    assert figures["generated"]["recall@10"] < 0.35  # the first ten hold a quarter of the targets
    assert figures["selected"]["recall@10"] > 0.75  # of twelve items that are taken ten are listed
    requests = digit_requests(1, 5000)  # more than a cascade holds together
    lists = Cascade(Beam(), BEAM, scorer).recommend(requests, 10, exclude_seen=True)
    assert (lists.items_CK == requests.targets_C[:, None]).any(axis=1).mean() > 0.75
    assert (np.diff(lists.scores_CK, axis=1) <= 0).all()
    assert not (lists.items_CK == requests.history_items[:, None]).any()


def test_a_scorer_that_trusts_the_generator_lists_the_beam() -> None:
    trusting = SelectionScorer(LAST_DIGIT, LinearWeights.trusting(LAST_DIGIT.names))
    requests = digit_requests(2, 20)
    lists = Cascade(Beam(), BEAM, trusting).recommend(requests, 10, exclude_seen=True)
    np.testing.assert_array_equal(lists.items_CK, Beam().recommend(requests, 10, exclude_seen=True).items_CK)


def test_what_is_reported_was_not_fitted() -> None:
    """Noise that a scorer could learn by heart must not look like a gain."""
    draw = np.random.default_rng(3)
    noise = {f"noise_{number}": lambda _, items_CK: draw.standard_normal(items_CK.shape) for number in range(40)}
    scorer, figures = fitted(Columns(noise), digit_requests(3, 60))
    assert figures["selected"]["recall@10"] < 0.5  # by heart it would be nearly one; at random it is a quarter
    assert figures["pays"] == (figures["selected"]["ndcg@10"] > figures["generated"]["ndcg@10"])
    assert figures["pays"] or scorer.weights.weights_F.tolist() == [1.0] + [0.0] * 40


def test_where_fitting_does_not_pay_the_generator_is_trusted() -> None:
    """Users who take the likeliest item that they have not seen: no other order can be better."""
    requests = requests_of([[0]] * 200, [1] * 200)
    scorer, figures = fitted(LAST_DIGIT, requests)
    assert figures["generated"]["ndcg@10"] == 1.0
    assert not figures["pays"]
    assert scorer.weights.weights_F.tolist() == [1.0, 0.0]


def like_new_item(requests: Requests, items_CK: np.ndarray) -> np.ndarray:
    """Of new items: whether the one in the history is of the same kind."""
    return (items_CK >= 40) & ((items_CK == 41) == (requests.history_items >= 20)[:, None])


WITH_NEW: Any = Columns(
    {"digit": digit, "new": lambda _, items_CK: items_CK >= 40, "new_content_mean": like_new_item}, frozenset({40, 41})
)


def requests_with_new_items(count: int) -> Requests:
    """As `digit_requests`, but every fiftieth user takes the new item that is like the one in the history."""
    requests = digit_requests(3, count)
    new = np.arange(count) % 50 == 7
    requests.targets_C[new] = np.where(requests.history_items[new] >= 20, 41, 40)
    return requests


def test_new_items_are_all_in_the_fit_and_count_what_they_are_worth() -> None:
    fitting = fitting_requests(requests_with_new_items(5000), even_rows(5000, 500), WITH_NEW, new_item_weight=2.0)
    new = fitting.requests.targets_C >= 40
    assert new.sum() == 100
    assert fitting.even_C.sum() == 500
    np.testing.assert_allclose(fitting.counts_C[new], 0.2)  # a tenth of all requests, twice
    np.testing.assert_array_equal(fitting.counts_C[~new], 1.0)
    assert fitting.even_C[~new].all()
    # Without new items an even sample is all there is.
    fitting = fitting_requests(digit_requests(0, 400), even_rows(400, 100), LAST_DIGIT, 2.0)
    assert len(fitting.requests) == 100
    assert fitting.even_C.all()
    np.testing.assert_array_equal(fitting.counts_C, 1.0)


def test_new_items_are_listed_where_their_content_speaks_for_them() -> None:
    """No beam holds 40, which is like items below 20, and 41, which is like the others."""
    vectors = np.zeros((42, 2), np.float32)
    vectors[[*range(20), 40], 0], vectors[[*range(20, 40), 41], 1] = 1, 1
    recommender = GeneratorWithNewItems(Beam(), ContentKNN(vectors, 1.0, np.array([40, 41])), 2)  # type: ignore[arg-type]
    fitting = fitting_requests(requests_with_new_items(5000), np.arange(0, 5000, 5), WITH_NEW, 10.0)
    candidates = recommender.recommend(fitting.requests, BEAM + 2, exclude_seen=True)
    scorer, _ = fit_selection(candidates, WITH_NEW, fitting)
    lists = Cascade(recommender, BEAM + 2, scorer).recommend(requests_of([[5], [25]]), 10, exclude_seen=True)
    first, second = lists.items_CK.tolist()
    assert 40 in first and 41 not in first
    assert 41 in second and 40 not in second
