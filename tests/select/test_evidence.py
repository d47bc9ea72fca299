"""What is said about a proposed item equals the definitions, computed one pair of items at a time."""

import numpy as np
import pytest

from onerec.recommenders.content_knn import HISTORY_EVENTS, ContentKNN
from onerec.recommenders.item_knn import ItemKNN
from onerec.recommenders.generator import Proposals
from onerec.scorers.candidate_features import Evidence, directly_after

ITEMS = 30


def random_log(seed: int, cases: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, longest, size=cases)
    return draw.integers(ITEMS, size=lengths.sum()).astype(np.int32), np.concatenate([[0], lengths.cumsum()])


def make_evidence(seed: int = 0, decay: float = 0.7, item_scores: bool = False) -> Evidence:
    draw = np.random.default_rng(seed)
    vectors = {"content": draw.standard_normal((ITEMS, 5)), "behaviour": draw.standard_normal((ITEMS, 3))}
    vectors["behaviour"][:4] = 0  # items without any event
    blocks = {name: block.astype(np.float32) for name, block in vectors.items()}
    log = random_log(seed + 1, 15, 12)
    return Evidence(item_scores, ItemKNN().fit(*log, ITEMS), directly_after(*log, ITEMS), blocks, decay)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths > 1e-12 else 0.0


def test_scores_of_given_items_are_those_of_the_list() -> None:
    knn = ItemKNN(window=3, session_events=5).fit(*random_log(1, 40, 10), ITEMS)
    histories = random_log(2, 25, 14)
    items, scores = knn.recommend(*histories, k=ITEMS, exclude_seen=False)
    shuffled = np.random.default_rng(0).permuted(items, axis=1)
    asked = knn.scores_of(*histories, shuffled)
    for row in range(len(items)):
        listed = {int(item): max(float(score), 0.0) for item, score in zip(items[row], scores[row], strict=True)}
        found = {int(item): float(score) for item, score in zip(shuffled[row], asked[row], strict=True)}
        assert found == pytest.approx(listed, rel=1e-5)
    assert asked.max() > 0
    assert knn.scores_of(*histories, np.full((25, 2), -1)).max() == 0


def test_scores_of_given_items_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    knn = ItemKNN().fit(*random_log(1, 40, 10), ITEMS)
    histories = random_log(2, 25, 14)
    items = np.tile(np.arange(ITEMS), (25, 1))
    whole = knn.scores_of(*histories, items)
    monkeypatch.setattr("onerec.recommenders.item_knn._CELLS_PER_CHUNK", 40)
    np.testing.assert_array_equal(knn.scores_of(*histories, items), whole)


def test_nothing_counted_scores_nothing() -> None:
    knn = ItemKNN().fit(np.zeros(0, np.int32), np.zeros(3, np.int64), ITEMS)
    assert knn.scores_of(*random_log(2, 5, 4), np.zeros((5, 3), np.int32)).max() == 0


@pytest.mark.parametrize("chunk", [1, 1 << 23])
def test_features_equal_their_definitions(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerec.scorers.candidate_features.ELEMENTS", chunk)
    evidence = make_evidence(item_scores=True)
    items, offsets = random_log(5, 12, HISTORY_EVENTS + 20)  # some are longer than what likeness looks at
    draw = np.random.default_rng(6)
    proposed = np.stack([draw.permutation(ITEMS)[:9] for _ in range(12)]).astype(np.int32)
    proposed[3, 5:] = -1
    log_probabilities = np.where(proposed >= 0, -draw.random(proposed.shape), -np.inf).astype(np.float32)
    item_scores = np.where(proposed >= 0, draw.standard_normal(proposed.shape), 0).astype(np.float32)
    features = evidence.features(items, offsets, Proposals(proposed, log_probabilities, item_scores))
    column = {name: features[..., place] for place, name in enumerate(evidence.names)}
    assert np.isfinite(features).all()
    assert not features[3, 5:].any()
    together = evidence.co_occurrence.scores_of(items, offsets, proposed)
    found = proposed >= 0
    np.testing.assert_array_equal(column["log_probability"][found], log_probabilities[found])
    np.testing.assert_array_equal(column["item_score"], item_scores)
    np.testing.assert_array_equal(column["never_together"][found], (together == 0)[found])
    np.testing.assert_allclose(column["co_occurrence_root"][found] ** 2, together[found], rtol=1e-5)
    order = np.argsort(together[found])
    assert (np.diff(column["co_occurrence"][found][order]) >= 0).all()
    for name, block in evidence.vectors.items():
        unit = np.array([row / np.linalg.norm(row) if row.any() else row for row in block])
        for case, place in zip(*np.nonzero(found), strict=True):
            history = unit[items[offsets[case] : offsets[case + 1]][-HISTORY_EVENTS:]]
            ages = np.arange(len(history))[::-1]
            mean = (evidence.decay**ages) @ history
            candidate = unit[proposed[case, place]]
            assert column[f"{name}_mean"][case, place] == pytest.approx(cosine(candidate, mean), abs=1e-5)
            assert column[f"{name}_most"][case, place] == pytest.approx(max(history @ candidate), abs=1e-5)


def test_a_case_does_not_depend_on_the_others() -> None:
    evidence = make_evidence()
    items, offsets = random_log(5, 8, 20)
    proposed = np.tile(np.arange(10, dtype=np.int32), (8, 1))
    log_probabilities = np.zeros((8, 10), np.float32)
    together = evidence.features(items, offsets, Proposals(proposed, log_probabilities, None))
    for case in range(8):
        history = items[offsets[case] : offsets[case + 1]]
        beam = Proposals(proposed[:1], log_probabilities[:1], None)
        alone = evidence.features(history, np.array([0, len(history)]), beam)
        np.testing.assert_allclose(together[case], alone[0], atol=1e-6)


def test_directly_after_counts_what_followed_the_newest_event_at_once() -> None:
    # 1 was followed by 2 twice and by 3 once; 2 by 3 once
    knn = directly_after(np.array([1, 2, 1, 2, 1, 3, 2, 3]), np.array([0, 2, 4, 6, 8]), 5)
    history, offsets = np.array([2, 1]), np.array([0, 2])
    scores = knn.scores_of(history, offsets, np.array([[2, 3, 4, 0]]))
    assert scores[0, 0] == pytest.approx(2 * scores[0, 1])
    assert scores[0, 1] > 0
    assert scores[0, 2] == scores[0, 3] == 0


def test_new_items_have_likeness_of_their_own() -> None:
    known = make_evidence()
    finder = ContentKNN(known.vectors["content"], known.decay, np.array([1, 3]))
    evidence = Evidence(False, known.co_occurrence, known.directly_after, known.vectors, known.decay, finder, 2)
    items, offsets = random_log(5, 3, 20)
    proposed = np.tile(np.array([0, 1, 2, 3, -1], np.int32), (3, 1))
    beams = Proposals(proposed, np.where(proposed >= 0, -1, -np.inf).astype(np.float32), None)
    features = evidence.features(items, offsets, beams)
    column = {name: features[..., place] for place, name in enumerate(evidence.names)}
    new = np.array([False, True, False, True, False])
    np.testing.assert_array_equal(column["new"], np.tile(new, (3, 1)))
    for how in ("mean", "most"):
        np.testing.assert_array_equal(column[f"new_content_{how}"], column[f"content_{how}"] * new)
    assert np.abs(column["new_content_mean"][:, new]).min() > 0
    np.testing.assert_array_equal(features[..., : len(known.names)], known.features(items, offsets, beams))
    assert not evidence.is_new(np.array([-1, 0, 2])).any()
