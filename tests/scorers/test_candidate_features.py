"""Features of a candidate equal their definitions, computed one pair of items at a time."""

from dataclasses import replace

import numpy as np
import pytest
from request_cases import flat, histories_of, random_histories, requests_of

from onerec.data.candidates import Candidates
from onerec.scorers.candidate_features import FLOOR, NEWEST_ONLY, CandidateFeatures
from onerec.scorers.co_occurrence import CoOccurrence
from onerec.scorers.content_likeness import HISTORY_EVENTS

ITEMS = 30


def make_features(decay: float = 0.7, item_scores: bool = False) -> CandidateFeatures:
    draw = np.random.default_rng(0)
    vectors = {"content": draw.standard_normal((ITEMS, 5)), "behaviour": draw.standard_normal((ITEMS, 3))}
    vectors["behaviour"][:4] = 0  # items without any event
    blocks = {name: block.astype(np.float32) for name, block in vectors.items()}
    log = flat(random_histories(1, 15, ITEMS, 12))
    counts, after = CoOccurrence().fit(*log, ITEMS), CoOccurrence(NEWEST_ONLY).fit(*log, ITEMS)
    return CandidateFeatures(item_scores, counts, after, blocks, decay)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths > 1e-12 else 0.0


@pytest.mark.parametrize("chunk", [1, 1 << 23])
def test_features_equal_their_definitions(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerec.scorers.content_likeness.ELEMENTS", chunk)
    features = make_features(item_scores=True)
    requests = requests_of(random_histories(5, 12, ITEMS, HISTORY_EVENTS + 20))  # some longer than likeness looks at
    draw = np.random.default_rng(6)
    items_CK = np.stack([draw.permutation(ITEMS)[:9] for _ in range(12)]).astype(np.int32)
    items_CK[3, 5:] = -1
    found = items_CK >= 0
    log_probabilities = np.where(found, -draw.random(items_CK.shape), -np.inf).astype(np.float32)
    item_scores = np.where(found, draw.standard_normal(items_CK.shape), 0).astype(np.float32)
    values_CKF = features.of(requests, Candidates(items_CK, log_probabilities, {"item_score": item_scores}))
    column = {name: values_CKF[..., place] for place, name in enumerate(features.names)}
    assert np.isfinite(values_CKF).all()
    assert not values_CKF[3, 5:].any()
    together = features.co_occurrence.scores_of(requests, items_CK)
    after = features.directly_after.scores_of(requests, items_CK)
    np.testing.assert_array_equal(column["log_probability"][found], log_probabilities[found])
    np.testing.assert_array_equal(column["item_score"], item_scores)
    np.testing.assert_array_equal(column["never_together"][found], (together == 0)[found])
    np.testing.assert_allclose(column["co_occurrence_root"][found] ** 2, together[found], rtol=1e-5)
    for name, scores, counts in (
        ("co_occurrence", together, features.co_occurrence),
        ("directly_after", after, features.directly_after),
    ):
        floor = FLOOR * np.median(counts.similarity_NN.data)
        np.testing.assert_allclose(column[name][found], np.log(scores[found] + floor), rtol=1e-5)
    for name, block in features.vectors.items():
        unit = np.array([row / np.linalg.norm(row) if row.any() else row for row in block])
        for row, place in zip(*np.nonzero(found), strict=True):
            history = unit[histories_of(requests)[row][-HISTORY_EVENTS:]]
            mean = (features.decay ** np.arange(len(history))[::-1]) @ history
            candidate = unit[items_CK[row, place]]
            assert column[f"{name}_mean"][row, place] == pytest.approx(cosine(candidate, mean), abs=1e-5)
            assert column[f"{name}_most"][row, place] == pytest.approx(max(history @ candidate), abs=1e-5)


def test_a_request_does_not_depend_on_the_others() -> None:
    features, requests = make_features(), requests_of(random_histories(5, 8, ITEMS, 20))
    items_CK = np.tile(np.arange(10, dtype=np.int32), (8, 1))
    together = features.of(requests, Candidates(items_CK, np.zeros((8, 10), np.float32)))
    for row in range(8):
        one = Candidates(items_CK[:1], np.zeros((1, 10), np.float32))
        np.testing.assert_allclose(together[row], features.of(requests.pick(np.array([row])), one)[0], atol=1e-6)


def test_new_items_have_likeness_of_their_own() -> None:
    plain = make_features()
    features = replace(plain, new_items_M=np.array([1, 3]))
    requests = requests_of(random_histories(5, 3, ITEMS, 20))
    items_CK = np.tile(np.array([0, 1, 2, 3, -1], np.int32), (3, 1))
    candidates = Candidates(items_CK, np.where(items_CK >= 0, -1, -np.inf).astype(np.float32))
    values_CKF = features.of(requests, candidates)
    column = {name: values_CKF[..., place] for place, name in enumerate(features.names)}
    new = np.array([False, True, False, True, False])
    np.testing.assert_array_equal(column["new"], np.tile(new, (3, 1)))
    for how in ("mean", "most"):
        np.testing.assert_array_equal(column[f"new_content_{how}"], column[f"content_{how}"] * new)
    assert np.abs(column["new_content_mean"][:, new]).min() > 0
    np.testing.assert_array_equal(values_CKF[..., : len(plain.names)], plain.of(requests, candidates))
    assert not features.is_new(np.array([-1, 0, 2])).any()
    assert not plain.is_new(np.array([-1, 1, 3])).any()
