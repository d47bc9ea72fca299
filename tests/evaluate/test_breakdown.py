import numpy as np
import pytest
from request_cases import requests_of

from onerec.evaluate import breakdown
from onerec.evaluate.bootstrap import interval
from onerec.evaluate.ranking import Measure


def test_every_case_lands_in_the_bucket_its_words_say() -> None:
    counts = np.array([0, 1, 5, 6, 20, 21, 100, 101, 9999])
    ranks = np.array([0, 1, 11, 3, 0, 10, 1, 1, 0], dtype=np.int32)
    rows = breakdown.by_bucket(ranks, np.arange(9), counts, breakdown.POPULARITY_BUCKETS, samples=20)
    assert [(row["bucket"], row["cases"], row["recall@10"]["value"]) for row in rows] == [
        ("0 (cold)", 1, 0.0),
        ("1-5", 2, 0.5),
        ("6-20", 2, 0.5),
        ("21-100", 2, 1.0),
        ("over 100", 2, 0.5),
    ]
    assert rows[2]["ndcg@10"]["value"] == pytest.approx(1 / np.log2(4) / 2)


def test_measured_keys_are_training_events_of_the_target_and_lengths_of_histories() -> None:
    lengths = [1, 5, 6, 10, 11, 20, 21, 50, 51]
    requests = requests_of([[0] * length for length in lengths], [0, 0, 0, 1, 1, 2, 2, 2, 2])
    counts = breakdown.training_counts(np.array([1] * 6 + [2]), 3)
    assert counts.tolist() == [0, 6, 1]
    found = Measure(requests, counts, np.arange(3), samples=20, seed=0).breakdowns(np.ones((9, 1), np.int32))
    assert {name: {row["bucket"]: row["cases"] for row in rows} for name, rows in found.items()} == {
        "by_popularity": {"0 (cold)": 3, "1-5": 4, "6-20": 2},
        "by_history_length": {"1-5": 2, "6-10": 2, "11-20": 2, "21-50": 2, "over 50": 1},
        "by_cold": {"cold": 3, "seen in training": 6},
    }


def test_intervals_resample_the_users_of_the_bucket() -> None:
    generator = np.random.default_rng(1)
    ranks = generator.integers(0, 20, size=300).astype(np.int32)
    user, key = np.repeat(np.arange(60), 5), generator.integers(0, 2, size=300)
    rows = breakdown.by_bucket(ranks, user, key, breakdown.COLD_BUCKETS, samples=100, seed=4)
    inside = key == 0
    hits = (ranks[inside] > 0) & (ranks[inside] <= 10)
    assert rows[0]["recall@10"] == pytest.approx(interval(hits, user[inside], samples=100, seed=4))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="each case needs one"):
        breakdown.by_bucket(np.ones(2, dtype=np.int32), np.arange(2), np.arange(3), breakdown.COLD_BUCKETS)
