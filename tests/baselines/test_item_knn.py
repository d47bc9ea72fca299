import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from onerec.baselines import item_knn
from onerec.recommenders.item_knn import ItemKNN
from onerec.evaluate.metrics import ndcg, ranks_of, recall

Sequences = list[list[int]]


def flat(sequences: Sequences) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    return np.array([item for s in sequences for item in s], dtype=np.int32), offsets


def random_log(seed: int, users: int, items: int, longest: int) -> Sequences:
    generator = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, items + 1)
    generator.shuffle(weight)
    weight /= weight.sum()
    return [generator.choice(items, size=generator.integers(0, longest), p=weight).tolist() for _ in range(users)]


def slow_scores(train: Sequences, history: list[int], model: ItemKNN) -> dict[int, float]:
    """The formula in the class's docstring, one event after another."""
    counts: defaultdict[int, int] = defaultdict(int)
    similarity: defaultdict[tuple[int, int], float] = defaultdict(float)
    for sequence in train:
        for place, item in enumerate(sequence):
            counts[item] += 1
            for gap in range(1, model.window + 1):
                if place + gap < len(sequence):
                    similarity[item, sequence[place + gap]] += 1 / gap
    for sequence in train:
        for start in range(0, len(sequence), model.session_events):
            session = set(sequence[start : start + model.session_events])
            for i in session:
                for j in session:
                    similarity[i, j] += model.session_weight * counts[j] ** -model.target_exponent
    scores: defaultdict[int, float] = defaultdict(float)
    for age, source in enumerate(reversed(history)):
        for (i, j), value in similarity.items():
            if i == source and j != source:
                scores[j] += model.decay**age * counts[i] ** -model.source_exponent * value
    return {item: score for item, score in scores.items() if score > 0}


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(
    "model",
    [
        ItemKNN(),
        ItemKNN(window=2, decay=0.9, session_weight=0.0),
        ItemKNN(window=3, decay=1.0, session_weight=2.0, source_exponent=1.0, target_exponent=0.0, session_events=4),
    ],
    ids=["defaults", "order-only", "short-sessions"],
)
def test_equals_the_formula_event_by_event(model: ItemKNN, exclude_seen: bool) -> None:
    train = random_log(1, users=25, items=18, longest=12)
    histories = [*random_log(2, users=12, items=18, longest=15), []]
    model.fit(*flat(train), 18)
    items, scores = model.recommend(*flat(histories), k=18, exclude_seen=exclude_seen)
    for row, history in enumerate(histories):
        expected = slow_scores(train, history, model)
        for item in set(history) if exclude_seen else ():
            expected.pop(item, None)
        found = {int(i): float(s) for i, s in zip(items[row], scores[row], strict=True) if s > 0}
        assert found == pytest.approx(expected, rel=1e-5)
        assert (np.diff(scores[row][items[row] >= 0]) <= 0).all()
        left = set(range(18)) - (set(history) if exclude_seen else set())
        assert sorted(items[row][items[row] >= 0].tolist()) == sorted(left)


def test_order_of_events_matters() -> None:
    train = [[0, 1, 2]] * 3
    model = ItemKNN(window=1, session_weight=0.0).fit(*flat(train), 4)
    items, scores = model.recommend(*flat([[1], [2]]), k=1, exclude_seen=True)
    assert items[0].tolist() == [2]
    assert scores[1, 0] < 0  # nothing ever followed item 2: a popularity fill


def test_fill_is_by_popularity_below_every_scored_item() -> None:
    train = [[0, 1], [2, 3], [2, 3], [3], [4]]
    model = ItemKNN(session_weight=0.0).fit(*flat(train), 6)
    items, scores = model.recommend(*flat([[0], []]), k=4, exclude_seen=True)
    assert items[0].tolist()[:3] == [1, 3, 2]
    assert scores[0, 0] > 0 > scores[0, 1] > scores[0, 2]
    assert items[1].tolist()[:2] == [3, 2]


def test_lists_end_in_minus_one_when_the_catalogue_is_exhausted() -> None:
    model = ItemKNN().fit(*flat([[0, 1, 2]]), 3)
    items, scores = model.recommend(*flat([[0, 1, 2], [0, 0]]), k=5, exclude_seen=True)
    assert items[0].tolist() == [-1] * 5
    assert set(items[1].tolist()[:2]) == {1, 2}
    assert items[1].tolist()[2:] == [-1] * 3
    assert (scores[items < 0] == -np.inf).all()


def test_ties_follow_popularity_then_chance_never_the_number() -> None:
    # Item 0 is followed once by each of 1 … 100; item 100 is also met elsewhere, hence more popular.
    train = [[0, item] for item in range(1, 101)] + [[100]]
    lists = [
        ItemKNN(session_weight=0.0, seed=seed).fit(*flat(train), 101).recommend(*flat([[0]]), 100, True)[0][0]
        for seed in (0, 0, 1)
    ]
    assert (lists[0] == lists[1]).all()
    assert (lists[0] != lists[2]).any()
    assert lists[0][0] == lists[2][0] == 100
    # The rank correlation of two independent orders of 99 has a standard deviation of 0.10.
    assert abs(np.corrcoef(lists[0][1:], np.arange(99))[0, 1]) < 0.4


def test_blocks_and_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    train, histories = random_log(5, 60, 40, 20), random_log(6, 30, 40, 20)
    whole = ItemKNN().fit(*flat(train), 40).recommend(*flat(histories), 10, True)
    monkeypatch.setattr(item_knn, "_ENTRIES_PER_BLOCK", 50)
    monkeypatch.setattr(item_knn, "_CELLS_PER_CHUNK", 100)
    small = ItemKNN().fit(*flat(train), 40).recommend(*flat(histories), 10, True)
    assert (whole[0] == small[0]).all()
    assert np.allclose(whole[1], small[1], rtol=1e-6)


def test_only_the_most_similar_neighbours_are_kept() -> None:
    train = [[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3]]
    model = ItemKNN(session_weight=0.0, neighbours=2).fit(*flat(train), 4)
    items, scores = model.recommend(*flat([[0]]), 3, True)
    assert items[0].tolist() == [1, 2, 3]
    assert (scores[0] > 0).tolist() == [True, True, False]


def test_an_empty_log_still_answers() -> None:
    model = ItemKNN().fit(np.zeros(0, dtype=np.int32), np.array([0]), 5)
    items, scores = model.recommend(*flat([[], [3]]), 4, exclude_seen=True)
    assert 3 not in items[1]
    assert (scores < 0).all()
    assert model.recommend(np.zeros(0, dtype=np.int32), np.array([0]), 4, True)[0].shape == (0, 4)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="decay"):
        ItemKNN(decay=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        ItemKNN(window=0)
    with pytest.raises(ValueError, match="session_weight"):
        ItemKNN(session_weight=-1.0)


@pytest.mark.skipif("ONEREC_DATA" not in os.environ, reason="set ONEREC_DATA to the folder that holds amazon-beauty")
def test_amazon_beauty_reaches_the_strength_a_comparison_needs() -> None:
    folder = Path(os.environ["ONEREC_DATA"]) / "amazon-beauty"
    item_ids = pl.read_parquet(folder / "items.parquet")["item_id"]
    number = dict(zip(item_ids.to_list(), range(len(item_ids)), strict=True))
    events = pl.read_parquet(folder / "events.parquet").with_columns(pl.col("item_id").replace_strict(number))
    sequences = events.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    model = ItemKNN().fit(*flat([sequence[:-2] for sequence in sequences]), len(item_ids))
    items, _ = model.recommend(*flat([sequence[:-1] for sequence in sequences]), 50, exclude_seen=True)
    ranks = ranks_of(items, np.array([sequence[-1] for sequence in sequences]))
    assert recall(ranks, 10).mean() >= 0.083
    assert ndcg(ranks, 10).mean() >= 0.0518
