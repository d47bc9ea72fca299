"""The generator as a recommender: batches, item scores, and other items that are judged behind the beam."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_cases import make_generator
from request_cases import random_histories, requests_of

from onerec.data.candidates import Candidates, Lists
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.recommenders.content_knn import ContentKNN
from onerec.recommenders.generator import ITEM_SCORE, GeneratorRecommender, GeneratorWithNewItems

# float32 sums of a few log-softmaxes, computed in a different order: 1e-5 is what the project promises.
TOLERANCE = 1e-5
COUNT, K = 17, 10


@pytest.fixture(scope="module")
def recommender() -> GeneratorRecommender:
    """Scores whole items as well."""
    return GeneratorRecommender(make_generator(item_loss=0.5), beam_width=50, batch_size=COUNT)


@pytest.fixture(scope="module")
def items(recommender: GeneratorRecommender) -> int:
    return recommender.generator.trie.item_count


REQUESTS = requests_of(random_histories(3, COUNT, 60, 11))


@torch.no_grad()
def reference(recommender: GeneratorRecommender, items_CK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities and item scores of given items, all requests in one batch and in their order."""
    model, log_probabilities, scores = recommender.generator, np.empty(items_CK.shape), np.empty(items_CK.shape)
    for rows, batch in REQUESTS.batches(model.config.history_length, 0, COUNT):
        asked_BK = torch.from_numpy(items_CK[rows]).long().clamp(min=0)
        log_probabilities[rows] = item_log_probabilities(model, batch, asked_BK)
        scores[rows] = bind(model, batch).item_scores(asked_BK)
    return log_probabilities, scores


def check_scores(recommender: GeneratorRecommender, candidates: Candidates) -> None:
    """Every candidate has its own log-probability and item score, and no item has neither."""
    log_probabilities, item_scores = reference(recommender, candidates.items_CK)
    found_CK = candidates.found_CK
    np.testing.assert_allclose(candidates.scores_CK[found_CK], log_probabilities[found_CK], atol=TOLERANCE)
    np.testing.assert_allclose(candidates.features[ITEM_SCORE][found_CK], item_scores[found_CK], atol=TOLERANCE)
    assert np.isneginf(candidates.scores_CK[~found_CK]).all()
    assert not candidates.features[ITEM_SCORE][~found_CK].any()


def test_batches_change_nothing(recommender: GeneratorRecommender) -> None:
    whole = recommender.recommend(REQUESTS, K, exclude_seen=True)
    single = replace(recommender, batch_size=1).recommend(REQUESTS, K, exclude_seen=True)
    np.testing.assert_array_equal(whole.items_CK, single.items_CK)
    np.testing.assert_allclose(whole.scores_CK, single.scores_CK, atol=TOLERANCE)
    check_scores(recommender, whole)


def test_without_an_item_scorer_there_are_no_item_scores() -> None:
    plain = GeneratorRecommender(make_generator(), beam_width=50)
    assert plain.recommend(REQUESTS, K, exclude_seen=False).features == {}


def test_a_list_longer_than_the_beam_widens_it(recommender: GeneratorRecommender, items: int) -> None:
    lists = replace(recommender, beam_width=2).recommend(REQUESTS, items, exclude_seen=False)
    assert np.sort(lists.items_CK, axis=1).tolist() == [list(range(items))] * COUNT


def test_other_items_stand_behind_the_beam_unless_it_holds_them(recommender: GeneratorRecommender, items: int) -> None:
    draw = np.random.default_rng(5)
    others_CX = np.stack([draw.permutation(items)[:12] for _ in range(COUNT)]).astype(np.int32)
    others_CX[:, 3] = -1
    beam = recommender.recommend(REQUESTS, K, exclude_seen=True)
    judged = recommender.judge(REQUESTS, K, Lists(others_CX, np.zeros(others_CX.shape, np.float32)), exclude_seen=True)
    np.testing.assert_array_equal(judged.items_CK[:, :K], beam.items_CK)
    for listed, others, behind in zip(beam.items_CK, others_CX, judged.items_CK[:, K:], strict=True):
        assert behind.tolist() == [-1 if item in listed else item for item in others]
    assert (judged.items_CK[:, K:] >= 0).any() and (others_CX >= 0).sum() > (judged.items_CK[:, K:] >= 0).sum()
    check_scores(recommender, judged)


def test_new_items_take_their_places_among_the_candidates(recommender: GeneratorRecommender, items: int) -> None:
    vectors = np.random.default_rng(6).standard_normal((items, 4)).astype(np.float32)
    finder = ContentKNN(vectors, 0.7, np.arange(items - 20, items))
    found = GeneratorWithNewItems(recommender, finder, 4).recommend(REQUESTS, K, exclude_seen=True)
    assert found.items_CK.shape == (COUNT, K)
    beam = recommender.recommend(REQUESTS, K - 4, exclude_seen=True)
    np.testing.assert_array_equal(found.items_CK[:, : K - 4], beam.items_CK)
    new = finder.recommend(REQUESTS, 4, exclude_seen=True).items_CK
    in_beam = (new[:, :, None] == beam.items_CK[:, None]).any(axis=-1)
    np.testing.assert_array_equal(found.items_CK[:, K - 4 :], np.where(in_beam, -1, new))
    check_scores(recommender, found)
