"""The P-Score as a scorer: what it reads of requests, missing candidates, and independence of order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reward_data import ITEMS, SIGNALS, planted_events, write_planted

from onerec.data.candidates import Candidates
from onerec.data.impressions import fit_impression_vocabulary, read_impressions
from onerec.data.requests import UNKNOWN, Requests, evaluation_requests
from onerec.data.split import split_sequences
from onerec.scorers.preference_config import RewardConfig
from onerec.scorers.preference_model import PreferenceModel
from onerec.scorers.preference_score import PreferenceScore

Asked = tuple[PreferenceScore, Requests]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """An untrained model with heads that say something, and requests of several lengths."""
    dataset = write_planted(tmp_path_factory.mktemp("planted") / "data", planted_events(30))
    sequences = split_sequences(dataset, positive="long")
    vocabulary = fit_impression_vocabulary(dataset, sequences, None)
    log = read_impressions(dataset, sequences, None, SIGNALS, vocabulary)
    torch.manual_seed(0)
    rates = torch.tensor([0.6, 0.5, 0.2])
    model = PreferenceModel(RewardConfig(), SIGNALS, vocabulary, torch.randn(ITEMS, 4), rates, torch.ones(ITEMS))
    with torch.no_grad():
        model.heads.normal_()
        model.fusion_head.weight.normal_()
    return PreferenceScore(model, log, batch_size=7), evaluation_requests(sequences, "test", "all")


def same_items(requests: Requests, items: list[int]) -> np.ndarray:
    return np.tile(np.array(items, np.int32), (len(requests), 1))


def test_scores_are_probabilities_of_any_item_for_any_request(asked: Asked) -> None:
    score, requests = asked
    everything = same_items(requests, list(range(ITEMS)))
    scores, chances = score.p_scores(requests, everything), score.judge(requests, everything).objectives_BXO.sigmoid()
    assert scores.shape == (len(requests), ITEMS) and scores.dtype == np.float32
    assert chances.shape == (len(requests), ITEMS, 3)
    assert ((scores > 0) & (scores < 1)).all()
    assert ((chances > 0) & (chances < 1)).all()
    assert scores.std(axis=1).min() > 1e-4  # items differ
    np.testing.assert_allclose(score.p_scores(requests, same_items(requests, [5, 3])), scores[:, [5, 3]], rtol=1e-5)


def test_scores_of_candidates_are_logarithms_and_a_missing_one_is_below_everything(asked: Asked) -> None:
    score, requests = asked
    items_CK = same_items(requests, [4, -1, 7])
    scores_CK = score.score(requests, Candidates(items_CK, np.zeros(items_CK.shape, np.float32)))
    assert scores_CK.dtype == np.float32
    assert np.isneginf(scores_CK[:, 1]).all()
    expected = np.log(score.p_scores(requests, same_items(requests, [4, 7])))
    np.testing.assert_allclose(scores_CK[:, [0, 2]], expected, rtol=1e-5)


def test_the_size_of_batches_and_the_order_of_requests_change_nothing(asked: Asked) -> None:
    score, requests = asked
    draw = np.random.default_rng(0)
    items, order = draw.integers(ITEMS, size=(len(requests), 4)), draw.permutation(len(requests))
    expected = score.p_scores(requests, items)
    together = replace(score, batch_size=1000).p_scores(requests, items)
    np.testing.assert_allclose(together, expected, atol=1e-5, rtol=1e-4)
    turned = score.p_scores(requests.pick(order), items[order])
    np.testing.assert_allclose(turned, expected[order], atol=1e-5, rtol=1e-4)


def test_the_model_reads_only_the_items_of_an_unknown_request(asked: Asked) -> None:
    score, requests = asked
    items = same_items(requests, [1, 2, 3])
    nameless = replace(requests, target_events_C=np.full(len(requests), UNKNOWN))
    found = score.p_scores(nameless, items)
    assert np.isfinite(found).all()
    assert np.abs(found - score.p_scores(requests, items)).max() > 1e-4
    changed = replace(nameless, history_items=np.where(requests.history_items == 0, 1, requests.history_items - 1))
    assert np.abs(score.p_scores(changed, items) - found).max() > 1e-4


def test_the_target_and_what_follows_are_not_read(asked: Asked) -> None:
    score, requests = asked
    ends = score.log.histories_of(requests)
    assert ends is not None
    for number in range(0, len(requests), 9):
        stream = score.log.stream
        features, numbers = stream.features_EF.copy(), stream.item_index.copy()
        features[ends[1][number] :], numbers[ends[1][number] :] = 0, 0
        blind = replace(score.log, stream=replace(stream, features_EF=features, item_index=numbers))
        one = requests.pick(np.array([number]))
        items = same_items(one, [1, 2, 3])
        np.testing.assert_array_equal(replace(score, log=blind).p_scores(one, items), score.p_scores(one, items))
