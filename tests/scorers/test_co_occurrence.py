"""Co-occurrence as scores of given candidates, and as files."""

from pathlib import Path

import numpy as np
import pytest
from request_cases import Histories, flat, random_histories, requests_of

from onerec.recommenders.item_knn import ItemKNN
from onerec.scorers.candidate_features import NEWEST_ONLY
from onerec.scorers.co_occurrence import CoOccurrence, CoOccurrenceConfig

ITEMS = 30
TRAIN = random_histories(1, 40, ITEMS, 10)
REQUESTS = requests_of(random_histories(2, 25, ITEMS, 14))
SHORT = CoOccurrenceConfig(window=3, session_events=5)


def counted(train: Histories, config: CoOccurrenceConfig = SHORT) -> CoOccurrence:
    return CoOccurrence(config, seed=4).fit(*flat(train), ITEMS)


def test_scores_of_given_items_are_those_of_the_list_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted(TRAIN)
    lists = ItemKNN(counts).recommend(REQUESTS, ITEMS, exclude_seen=False)
    shuffled = np.random.default_rng(0).permuted(lists.items_CK, axis=1)
    asked = counts.scores_of(REQUESTS, shuffled)
    for items, scores, other, its_scores in zip(lists.items_CK, lists.scores_CK, shuffled, asked, strict=True):
        listed = dict(zip(items.tolist(), np.maximum(scores, 0).tolist(), strict=True))
        assert dict(zip(other.tolist(), its_scores.tolist(), strict=True)) == pytest.approx(listed, rel=1e-5)
    assert asked.max() > 0
    assert counts.scores_of(REQUESTS, np.full((25, 2), -1)).max() == 0
    monkeypatch.setattr("onerec.scorers.co_occurrence.CELLS_PER_CHUNK", 40)
    np.testing.assert_array_equal(counts.scores_of(REQUESTS, shuffled), asked)
    assert counted([[], []]).scores_of(REQUESTS, np.zeros((25, 3), np.int32)).max() == 0


def test_directly_after_counts_what_followed_the_newest_event_at_once() -> None:
    # 1 was followed by 2 twice and by 3 once; 2 by 3 once
    counts = counted([[1, 2], [1, 2], [1, 3], [2, 3]], NEWEST_ONLY)
    scores = counts.scores_of(requests_of([[2, 1]]), np.array([[2, 3, 4, 0]]))
    assert scores[0, 0] == pytest.approx(2 * scores[0, 1])
    assert scores[0, 1] > 0
    assert scores[0, 2] == scores[0, 3] == 0


def test_counts_from_files_give_the_very_same_scores_and_lists(tmp_path: Path) -> None:
    """To the last bit: a run that maps the counts of an earlier one must rank as that one did."""
    for name, train in (("some", TRAIN), ("none", [[]])):
        made = counted(train)
        made.save(tmp_path / name)
        loaded = CoOccurrence(made.config, seed=99).load(tmp_path / name)
        items = np.tile(np.arange(ITEMS, dtype=np.int32), (25, 1))
        np.testing.assert_array_equal(loaded.scores_of(REQUESTS, items), made.scores_of(REQUESTS, items))
        ours, theirs = (ItemKNN(one).recommend(REQUESTS, ITEMS, exclude_seen=True) for one in (made, loaded))
        np.testing.assert_array_equal(theirs.items_CK, ours.items_CK)
        np.testing.assert_array_equal(theirs.scores_CK, ours.scores_CK)
        assert loaded.median_strength == made.median_strength
        assert loaded.similarity_NN.dtype == np.float32


def test_counts_that_are_not_there_or_damaged_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"data\.npy"):
        CoOccurrence().load(tmp_path)
    counted(TRAIN).save(tmp_path)
    (tmp_path / "indices.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match="allow_pickle"):
        CoOccurrence().load(tmp_path)
