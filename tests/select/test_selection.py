"""The scorer learns what users go by, falls back on the generator, and its lists come from the beam."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from onerec.recommenders.content_knn import ContentKNN
from onerec.data.split import Cases, even_rows
from onerec.recommenders.generator import GeneratorRecommender, Proposals
from onerec.errors import UserError
from onerec.scorers.selection import FittingCases, SelectingRecommender, best, fit_scorer, fitting_cases
from onerec.scorers.linear_weights import Scorer

NAMES = ["log_probability", "likeness", "noise"]


def choices(seed: int, cases: int, weights: list[float], proposals: int = 20) -> tuple[np.ndarray, ...]:
    """Features, whether there is a proposal, and which one a user takes who goes by `weights`."""
    draw = np.random.default_rng(seed)
    features = (draw.standard_normal((cases, proposals, 3)) * [2.0, 0.3, 1.0]).astype(np.float32)
    found = np.arange(proposals) < draw.integers(2, proposals + 1, size=cases)[:, None]
    utility = features @ np.array(weights) + draw.gumbel(size=found.shape)
    return features, found, np.where(found, utility, -np.inf).argmax(axis=1)


def test_the_weights_that_users_go_by_are_found() -> None:
    # standard errors here are below .05 (features of spread 2, .3 and 1, 4,000 choices)
    scorer = Scorer.fit(NAMES, *choices(0, 4000, [0.5, 3.0, 0.0]))
    np.testing.assert_allclose(scorer.weights_F, [0.5, 3.0, 0.0], atol=0.2)


def test_without_data_the_generator_decides() -> None:
    features, found, _ = choices(0, 50, [0, 0, 0])
    np.testing.assert_array_equal(Scorer.fit(NAMES, features, found, np.full(50, -1)).weights_F, [1, 0, 0])
    few = Scorer.fit(NAMES, features[:2], found[:2], np.zeros(2, np.int64)).weights_F
    many = Scorer.fit(NAMES, *choices(1, 2000, [-1.0, 0.0, 0.0])).weights_F
    assert abs(few[0] - 1) < 0.5  # two choices hardly move what two thousand turn round
    assert many[0] < -0.9


def test_proposals_share_all_probability() -> None:
    features, found, _ = choices(0, 30, [0, 0, 0])
    scored = Scorer(NAMES, np.array([1.0, -2.0, 0.5])).log_probabilities(features, found)
    np.testing.assert_allclose(np.exp(scored).sum(axis=1), 1, rtol=1e-5)
    assert (np.isneginf(scored) == ~found).all()
    nothing = Scorer(NAMES, np.ones(3)).log_probabilities(features[:1], np.zeros((1, 20), bool))
    assert np.isneginf(nothing).all()


def test_the_best_are_taken_in_order_and_padded() -> None:
    items = np.array([[7, 8, 9], [4, -1, -1]], np.int32)
    scores = np.array([[-2.0, -1.0, -1.0], [-0.5, -np.inf, -np.inf]], np.float32)
    taken, their_scores = best(items, scores, 2)
    assert taken.tolist() == [[8, 9], [4, -1]]
    assert their_scores.tolist() == [[-1.0, -1.0], [-0.5, -np.inf]]
    assert best(items, scores, 5)[0].tolist() == [[8, 9, 7, -1, -1], [4, -1, -1, -1, -1]]


def test_weights_are_saved_and_their_names_checked(tmp_path: Path) -> None:
    path = tmp_path / "scorer.json"
    Scorer(NAMES, np.array([1.0, 0.1, -3.0])).save(path, cases=7)
    np.testing.assert_array_equal(Scorer.load(path, NAMES).weights_F, [1.0, 0.1, -3.0])
    with pytest.raises(UserError, match=r"scorer\.json: weighs log_probability, likeness, noise, not likeness"):
        Scorer.load(path, ["likeness"])
    path.write_text("[]")
    with pytest.raises(UserError, match="no readable weights"):
        Scorer.load(path, NAMES)


@dataclass
class Beam(GeneratorRecommender):
    """Stands for a generator: proposes items 0 .. beam_width - 1, the lower the likelier, none of them seen."""

    def propose(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: object = None,
        also_CX: np.ndarray | None = None,
    ) -> Proposals:
        items, scores = [], []
        for case, (start, stop) in enumerate(pairwise(history_offsets)):
            seen = set(history_items[start:stop].tolist()) if exclude_seen else set()
            free = [item for item in range(self.beam_width) if item not in seen][:k]
            also = [] if also_CX is None else also_CX[case].tolist()
            items.append(free + [-1] * (k - len(free)) + also)
            scores.append([-float(item) for item in free] + [-np.inf] * (k - len(free)) + [-99.0] * len(also))
        return Proposals(np.array(items, np.int32), np.array(scores, np.float32), None)


class SecondDigit:
    """Stands for evidence that knows what users of `digit_cases` go by: the second digit of an item."""

    names = ("log_probability", "digit")
    new_items = None

    def is_new(self, items: np.ndarray) -> np.ndarray:
        return np.zeros(items.shape, bool)

    def features(self, history_items: np.ndarray, history_offsets: np.ndarray, proposals: Proposals) -> np.ndarray:
        items = proposals.items_CK
        found = items >= 0
        columns = [np.where(found, proposals.log_probabilities_CK, 0), np.where(found, items % 10, 0)]
        return np.stack(columns, axis=-1).astype(np.float32)


def digit_cases(seed: int, count: int) -> Cases:
    """Users who take an item below 40 that ends in 7, 8 or 9, and have seen one item."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(4, size=count) * 10 + draw.integers(7, 10, size=count)
    seen = (targets + draw.integers(1, 40, size=count)) % 40
    return Cases(
        np.arange(count, dtype=np.int32), np.arange(count + 1), seen.astype(np.int32), targets.astype(np.int32)
    )


class NewItems(SecondDigit):
    """As above, with items that no beam holds: 40, which is like items below 20, and 41, which is like the others."""

    names = ("log_probability", "digit", "new", "new_content_mean")
    new_items_proposed = 2

    def __init__(self) -> None:
        vectors = np.zeros((42, 2), np.float32)
        vectors[[*range(20), 40], 0], vectors[[*range(20, 40), 41], 1] = 1, 1
        self.new_items = ContentKNN(vectors, 1.0, np.array([40, 41]))  # type: ignore[assignment]

    def is_new(self, items: np.ndarray) -> np.ndarray:
        return items >= 40

    def features(self, history_items: np.ndarray, history_offsets: np.ndarray, proposals: Proposals) -> np.ndarray:
        known = super().features(history_items, history_offsets, proposals)
        new = self.is_new(proposals.items_CK)
        like = new & ((proposals.items_CK == 41) == (history_items[history_offsets[1:] - 1] >= 20)[:, None])
        return np.concatenate([known, np.stack([new, like], axis=-1)], axis=-1).astype(np.float32)


def fitted_on(cases: Cases) -> FittingCases:
    return FittingCases(cases, np.ones(len(cases)), np.ones(len(cases), bool))


@pytest.fixture
def beam() -> Beam:
    return Beam(generator=None, beam_width=40)  # type: ignore[arg-type]


def test_selection_finds_what_the_order_of_the_beam_misses(beam: Beam) -> None:
    scorer, figures = fit_scorer(beam, SecondDigit(), fitted_on(digit_cases(0, 400)), exclude_seen=True)  # type: ignore[arg-type]
    assert figures["cases"] == 400
    assert figures["proposed"] == 1.0
    assert figures["generated"]["recall@10"] < 0.35  # the first ten hold a quarter of the targets
    assert figures["selected"]["recall@10"] > 0.75  # of twelve items that are taken ten are listed
    selecting = SelectingRecommender(beam, SecondDigit(), scorer)  # type: ignore[arg-type]
    cases = digit_cases(1, 5000)  # more than are held together
    items, scores = selecting.recommend(cases.history_items, cases.history_offsets, 10, True)
    assert (items == cases.target[:, None]).any(axis=1).mean() > 0.75
    assert (np.diff(scores, axis=1) <= 0).all()
    assert not (items == cases.history_items[:, None]).any()


def test_a_scorer_that_trusts_the_generator_lists_the_beam(beam: Beam) -> None:
    trusting = Scorer(["log_probability", "digit"], np.array([1.0, 0.0]))
    cases = digit_cases(2, 20)
    asked = (cases.history_items, cases.history_offsets, 10, True)
    selected = SelectingRecommender(beam, SecondDigit(), trusting).recommend(*asked)  # type: ignore[arg-type]
    np.testing.assert_array_equal(selected[0], beam.recommend(*asked)[0])


def test_what_is_reported_was_not_fitted(beam: Beam) -> None:
    """Noise that a scorer could learn by heart must not look like a gain."""
    draw = np.random.default_rng(3)
    cases = digit_cases(3, 60)

    class Noise(SecondDigit):
        names = ("log_probability", *(f"noise_{number}" for number in range(40)))

        def features(self, items: np.ndarray, offsets: np.ndarray, proposals: Proposals) -> np.ndarray:
            known = super().features(items, offsets, proposals)[..., :1]
            noise = draw.standard_normal((*proposals.items_CK.shape, 40))
            return np.concatenate([known, noise], axis=-1).astype(np.float32)

    scorer, figures = fit_scorer(beam, Noise(), fitted_on(cases), exclude_seen=True)  # type: ignore[arg-type]
    assert figures["selected"]["recall@10"] < 0.5  # by heart it would be nearly one; at random it is a quarter
    assert figures["pays"] == (figures["selected"]["ndcg@10"] > figures["generated"]["ndcg@10"])
    assert figures["pays"] or scorer.weights_F.tolist() == [1.0] + [0.0] * 40


def test_where_fitting_does_not_pay_the_generator_is_trusted(beam: Beam) -> None:
    """Users who take the likeliest items that they have not seen: no other order can be better."""
    count = 200
    seen = np.zeros(count, np.int32)
    cases = Cases(np.arange(count, dtype=np.int32), np.arange(count + 1), seen, np.ones(count, np.int32))
    scorer, figures = fit_scorer(beam, SecondDigit(), fitted_on(cases), exclude_seen=True)  # type: ignore[arg-type]
    assert figures["generated"]["ndcg@10"] == 1.0
    assert not figures["pays"]
    assert scorer.weights_F.tolist() == [1.0, 0.0]


def cases_with_new_items(count: int) -> Cases:
    """As `digit_cases`, but every fiftieth user takes the new item that is like the one in the history."""
    cases = digit_cases(3, count)
    new = np.arange(count) % 50 == 7
    cases.target[new] = np.where(cases.history_items[new] >= 20, 41, 40)
    return cases


def test_new_items_are_all_in_the_fit_and_count_what_they_are_worth() -> None:
    cases, evidence = cases_with_new_items(5000), NewItems()
    fitting = fitting_cases(cases, even_rows(5000, 500), evidence, new_item_weight=2.0)  # type: ignore[arg-type]
    new = fitting.cases.target >= 40
    assert new.sum() == 100
    assert fitting.even_C.sum() == 500
    np.testing.assert_allclose(fitting.counts_C[new], 0.2)  # a tenth of all cases, twice
    np.testing.assert_array_equal(fitting.counts_C[~new], 1.0)
    assert fitting.even_C[~new].all()


def test_new_items_are_listed_where_their_content_speaks_for_them(beam: Beam) -> None:
    fitting = fitting_cases(cases_with_new_items(5000), np.arange(0, 5000, 5), NewItems(), 10.0)  # type: ignore[arg-type]
    scorer, _ = fit_scorer(beam, NewItems(), fitting, exclude_seen=True)  # type: ignore[arg-type]
    selecting = SelectingRecommender(beam, NewItems(), scorer)  # type: ignore[arg-type]
    histories, offsets = np.array([5, 25], np.int32), np.array([0, 1, 2])
    items, _ = selecting.recommend(histories, offsets, 10, True)
    assert 40 in items[0]
    assert 41 not in items[0]
    assert 41 in items[1]
    assert 40 not in items[1]


def test_without_new_items_an_even_sample_is_fitted_on() -> None:
    fitting = fitting_cases(digit_cases(0, 400), even_rows(400, 100), SecondDigit(), 2.0)  # type: ignore[arg-type]
    assert len(fitting.cases) == 100
    assert fitting.even_C.all()
    np.testing.assert_array_equal(fitting.counts_C, 1.0)
