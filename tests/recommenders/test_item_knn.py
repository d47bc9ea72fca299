"""Item-kNN lists what its formula, counted one event after another, lists."""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from request_cases import Histories, flat, random_histories, requests_of

from onerec.data.candidates import Lists
from onerec.evaluate.metrics import ndcg, ranks_of, recall
from onerec.recommenders.item_knn import ItemKNN
from onerec.scorers.co_occurrence import CoOccurrence, CoOccurrenceConfig

ORDER_ONLY = CoOccurrenceConfig(session_weight=0.0)


def lists_of(
    train: Histories, histories: Histories, k: int, config: CoOccurrenceConfig = ORDER_ONLY, items: int = 4, **more: int
) -> Lists:
    """Item-kNN's lists without seen items."""
    counts = CoOccurrence(config, **more).fit(*flat(train), items)
    return ItemKNN(counts).recommend(requests_of(histories), k, exclude_seen=True)


def slow_scores(train: Histories, history: list[int], config: CoOccurrenceConfig) -> dict[int, float]:
    """The formula in the docstring of `CoOccurrence`, one event after another."""
    counts: defaultdict[int, int] = defaultdict(int)
    similarity: defaultdict[tuple[int, int], float] = defaultdict(float)
    for sequence in train:
        for place, item in enumerate(sequence):
            counts[item] += 1
            for gap in range(1, config.window + 1):
                if place + gap < len(sequence):
                    similarity[item, sequence[place + gap]] += 1 / gap
    for sequence in train:
        for start in range(0, len(sequence), config.session_events):
            session = set(sequence[start : start + config.session_events])
            for i in session:
                for j in session:
                    similarity[i, j] += config.session_weight * counts[j] ** -config.target_exponent
    scores: defaultdict[int, float] = defaultdict(float)
    for age, source in enumerate(reversed(history)):
        for (i, j), value in similarity.items():
            if i == source and j != source:
                scores[j] += config.decay**age * counts[i] ** -config.source_exponent * value
    return {item: score for item, score in scores.items() if score > 0}


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        CoOccurrenceConfig(),
        CoOccurrenceConfig(window=2, decay=0.9, session_weight=0.0),
        CoOccurrenceConfig(
            window=3, decay=1.0, session_weight=2.0, source_exponent=1.0, target_exponent=0.0, session_events=4
        ),
    ],
    ids=["defaults", "order-only", "short-sessions"],
)
def test_equals_the_formula_event_by_event(config: CoOccurrenceConfig, exclude_seen: bool) -> None:
    train = random_histories(1, 25, 18, 12, shortest=0)
    histories = [*random_histories(2, 12, 18, 15), []]
    counts = CoOccurrence(config).fit(*flat(train), 18)
    lists = ItemKNN(counts).recommend(requests_of(histories), 18, exclude_seen=exclude_seen)
    for items, scores, history in zip(lists.items_CK, lists.scores_CK, histories, strict=True):
        expected = slow_scores(train, history, config)
        for item in set(history) if exclude_seen else ():
            expected.pop(item, None)
        found = {int(i): float(s) for i, s in zip(items, scores, strict=True) if s > 0}
        assert found == pytest.approx(expected, rel=1e-5)
        assert (np.diff(scores[items >= 0]) <= 0).all()
        left = set(range(18)) - (set(history) if exclude_seen else set())
        assert sorted(items[items >= 0].tolist()) == sorted(left)


def test_fill_is_by_popularity_below_every_scored_item() -> None:
    lists = lists_of([[0, 1], [2, 3], [2, 3], [3], [4]], [[0], []], 4, items=6)
    assert lists.items_CK[0].tolist()[:3] == [1, 3, 2]
    assert lists.scores_CK[0, 0] > 0 > lists.scores_CK[0, 1] > lists.scores_CK[0, 2]
    assert lists.items_CK[1].tolist()[:2] == [3, 2]


def test_ties_follow_popularity_then_chance_never_the_number() -> None:
    # Item 0 is followed once by each of 1 … 100; item 100 is also met elsewhere, hence more popular.
    train = [[0, item] for item in range(1, 101)] + [[100]]
    first, again, other = (lists_of(train, [[0]], 100, items=101, seed=seed).items_CK[0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert first[0] == other[0] == 100
    # The rank correlation of two independent orders of 99 has a standard deviation of 0.10.
    assert abs(np.corrcoef(first[1:], np.arange(99))[0, 1]) < 0.4


def test_blocks_and_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    train, histories = random_histories(5, 60, 40, 20), random_histories(6, 30, 40, 20)
    whole = lists_of(train, histories, 10, CoOccurrenceConfig(), 40)
    monkeypatch.setattr("onerec.scorers.co_occurrence._ENTRIES_PER_BLOCK", 50)
    monkeypatch.setattr("onerec.recommenders.item_knn.CELLS_PER_CHUNK", 100)
    small = lists_of(train, histories, 10, CoOccurrenceConfig(), 40)
    assert (whole.items_CK == small.items_CK).all()
    assert np.allclose(whole.scores_CK, small.scores_CK, rtol=1e-6)


def test_only_the_most_similar_neighbours_are_kept() -> None:
    lists = lists_of([[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3]], [[0]], 3, neighbours=2)
    assert lists.items_CK[0].tolist() == [1, 2, 3]
    assert (lists.scores_CK[0] > 0).tolist() == [True, True, False]


def test_an_empty_log_still_answers() -> None:
    lists = lists_of([], [[], [3]], 4, CoOccurrenceConfig(), 5)
    assert 3 not in lists.items_CK[1]
    assert (lists.scores_CK < 0).all()
    assert lists_of([], [], 4).items_CK.shape == (0, 4)


@pytest.mark.parametrize("wrong", [{"decay": 0.0}, {"window": 0}, {"session_weight": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CoOccurrenceConfig.model_validate(wrong)


@pytest.mark.skipif("ONEREC_DATA" not in os.environ, reason="set ONEREC_DATA to the folder that holds amazon-beauty")
def test_amazon_beauty_reaches_the_strength_a_comparison_needs() -> None:
    folder = Path(os.environ["ONEREC_DATA"]) / "amazon-beauty"
    item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
    number = dict(zip(item_ids.to_list(), range(len(item_ids)), strict=True))
    events = pl.read_parquet(folder / "events.parquet").with_columns(pl.col("item_id").replace_strict(number))
    sequences = events.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    train, histories = [sequence[:-2] for sequence in sequences], [sequence[:-1] for sequence in sequences]
    lists = lists_of(train, histories, 50, CoOccurrenceConfig(), len(item_ids))
    ranks = ranks_of(lists.items_CK, np.array([sequence[-1] for sequence in sequences]))
    assert recall(ranks, 10).mean() >= 0.083
    assert ndcg(ranks, 10).mean() >= 0.0518
