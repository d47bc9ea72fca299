"""A cascade with cuts against sorting, cutting and sorting again in plain Python."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_cases import requests_of

from onerec.data.candidates import Candidates, Lists
from onerec.data.requests import Requests
from onerec.recommenders import cascade as cascade_module
from onerec.recommenders.cascade import Cascade, Cut

ITEMS = 15


@dataclass
class Finder:
    """Finds given candidates for the request with each number, which is the one item of its history."""

    items_CK: np.ndarray
    scores_CK: np.ndarray
    features: dict[str, np.ndarray] | None

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        rows = requests.history_items
        assert k == self.items_CK.shape[1]
        if self.features is None:
            return Lists(self.items_CK[rows], self.scores_CK[rows])
        features = {name: values_CK[rows] for name, values_CK in self.features.items()}
        return Candidates(self.items_CK[rows], self.scores_CK[rows], features)


@dataclass
class Table:
    """Scores of each item for each request; of several candidates with one score the finder's order decides."""

    scores_CN: np.ndarray

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        scores_CK = self.scores_CN[requests.history_items[:, None], candidates.items_CK]
        return np.where(candidates.found_CK, scores_CK, -np.inf).astype(np.float32)


class OwnScoreAndFeature:
    """Scores by what candidates bring along."""

    def score(self, requests: Requests, candidates: Candidates) -> np.ndarray:
        return candidates.scores_CK + candidates.features["bonus"]


def found(draw: np.random.Generator, requests: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct candidates in the order of their scores; of some requests fewer."""
    items_CK = np.array([draw.permutation(ITEMS)[:count] for _ in range(requests)], np.int32)
    items_CK[np.arange(count) >= draw.integers(0, count + 1, size=requests)[:, None]] = -1
    return items_CK, np.where(items_CK >= 0, -np.arange(count), -np.inf).astype(np.float32)


@given(
    st.integers(0, 10_000),
    st.integers(1, 7),
    st.lists(st.integers(1, 12), max_size=3),
    st.integers(1, 12),
    st.booleans(),
)
def test_lists_equal_sorting_and_cutting_one_request_at_a_time(
    seed: int, requests: int, keeps: list[int], k: int, with_features: bool
) -> None:
    draw = np.random.default_rng(seed)
    items_CK, scores_CK = found(draw, requests, 10)
    features = {"bonus": np.zeros_like(scores_CK)} if with_features else None
    tables = [draw.integers(0, 4, size=(requests, ITEMS)) for _ in range(len(keeps) + 1)]
    cuts = tuple(Cut(Table(table), keep) for table, keep in zip(tables, keeps, strict=False))
    cascade = Cascade(Finder(items_CK, scores_CK, features), 10, Table(tables[-1]), cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cascade_module, "REQUESTS_AT_ONCE", 3)
        lists = cascade.recommend(requests_of([[row] for row in range(requests)]), k, exclude_seen=False)
    for row in range(requests):
        left = [int(item) for item in items_CK[row] if item >= 0]
        for table, keep in zip(tables, [*keeps, k], strict=True):
            left = sorted(left, key=lambda item: -table[row, item])[:keep]
        missing = k - len(left)
        assert lists.items_CK[row].tolist() == left + [-1] * missing
        assert lists.scores_CK[row].tolist() == [*tables[-1][row, left].astype(float), *[-np.inf] * missing]


def test_a_scorer_behind_a_cut_reads_the_candidates_own_scores_and_features() -> None:
    draw = np.random.default_rng(0)
    items_CK, scores_CK = found(draw, 5, 10)
    bonus_CK = np.where(items_CK >= 0, draw.integers(0, 9, size=items_CK.shape), 0).astype(np.float32)
    finder, table = Finder(items_CK, scores_CK, {"bonus": bonus_CK}), Table(draw.random((5, ITEMS)))
    requests = requests_of([[row] for row in range(5)])
    lists = Cascade(finder, 10, OwnScoreAndFeature(), (Cut(table, 4),)).recommend(requests, 4, exclude_seen=False)
    for row in range(5):
        places = sorted(
            np.flatnonzero(items_CK[row] >= 0), key=lambda place: -table.scores_CN[row, items_CK[row, place]]
        )
        scores = {int(items_CK[row, place]): scores_CK[row, place] + bonus_CK[row, place] for place in places[:4]}
        assert dict(zip(lists.items_CK[row].tolist(), lists.scores_CK[row].tolist(), strict=True)) == scores | (
            {} if len(scores) == 4 else {-1: -np.inf}
        )
