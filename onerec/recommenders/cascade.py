"""A cascade: one recommender finds candidates, scorers cut them down, and the last scorer orders what is left.

Selection from the generator's beam and selection by reward are cascades of two. OneRec's claim is that the generator replaces
the long form of this (OneRec Technical Report, arXiv 2506.13695, section 1).
"""

from dataclasses import dataclass

import numpy as np

from onerec.data.candidates import Candidates, Lists, best_of
from onerec.data.requests import Requests
from onerec.recommenders.recommender import Recommender
from onerec.scorers.scorer import Scorer

REQUESTS_AT_ONCE = 2048  # whose candidates and features are held together


@dataclass(frozen=True)
class Cut:
    """A ranking step that keeps the `keep` best candidates by a scorer."""

    scorer: Scorer
    keep: int


@dataclass
class Cascade:
    """Recommend the best of another recommender's candidates.

    Attributes:
        recommender: finds the candidates.
        candidates: how many it is asked for.
        reranker: orders the candidates that are left; its scores are those of the list.
        cuts: steps in between, from the cheapest scorer to the dearest.
    """

    recommender: Recommender
    candidates: int
    reranker: Scorer
    cuts: tuple[Cut, ...] = ()

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Lists:
        """The k best candidates of each request, by the re-ranker."""
        lists = Lists.empty(len(requests), k)
        for start in range(0, len(requests), REQUESTS_AT_ONCE):
            rows = np.arange(start, min(start + REQUESTS_AT_ONCE, len(requests)))
            part = requests.pick(rows)
            candidates = as_candidates(self.recommender.recommend(part, self.candidates, exclude_seen=exclude_seen))
            for cut in self.cuts:
                candidates = keep_best(candidates, cut.scorer.score(part, candidates), cut.keep)
            best = best_of(candidates, self.reranker.score(part, candidates), k)
            lists.items_CK[rows], lists.scores_CK[rows] = best.items_CK, best.scores_CK
        return lists


def as_candidates(lists: Lists) -> Candidates:
    """Lists as candidates: of a recommender that says nothing else about its items, without features."""
    return lists if isinstance(lists, Candidates) else Candidates(lists.items_CK, lists.scores_CK)


def keep_best(candidates: Candidates, scores_CK: np.ndarray, keep: int) -> Candidates:
    """The `keep` candidates with the highest scores, with their own scores and features; equal ones keep their order."""
    order_CK = np.argsort(-scores_CK, axis=1, kind="stable")[:, :keep]
    items_CK, own_CK, *features = (
        np.take_along_axis(array_CK, order_CK, 1)
        for array_CK in (candidates.items_CK, candidates.scores_CK, *candidates.features.values())
    )
    return Candidates(items_CK, own_CK, dict(zip(candidates.features, features, strict=True)))
