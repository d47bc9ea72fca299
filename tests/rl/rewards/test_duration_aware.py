"""Duration-aware advantages: the paper's formula by hand and against a loop, and independence of duration."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from onerec.data.contract import DatasetSpec, EventColumns, ItemColumns, read_dataset, write_dataset
from onerec.errors import UserError
from rl.rewards.duration_aware import (
    DurationAwareConfig,
    advantages_of_batch,
    duration_aware_advantages,
    duration_buckets,
    play_events,
    play_time_percentiles,
)

NAN = np.nan


def test_buckets_are_floors_of_logarithms() -> None:
    durations = np.array([0, 1, 1.5, 2, 3.999, 4, 1000, NAN])
    # log2(1e-6) = -19.93; a duration on a border stands above it by epsilon
    np.testing.assert_array_equal(duration_buckets(durations, 2.0), [-20, 0, 0, 1, 1, 2, 9, NAN])
    assert duration_buckets(np.array([999.0]), 10.0).tolist() == [2]
    with pytest.raises(ValueError, match="above 1"):
        duration_buckets(durations, 1.0)
    with pytest.raises(ValueError, match="negative"):
        duration_buckets(np.array([-1.0]), 2.0)


def slow_percentiles(
    users: np.ndarray, buckets: np.ndarray, plays: np.ndarray, history: str, least: int
) -> list[float]:
    found = []
    for this in range(len(users)):
        others = [
            plays[other]
            for other in range(len(users) if history == "all" else this)
            if users[other] == users[this] and buckets[other] == buckets[this] and not np.isnan(plays[other])
        ]
        known = not np.isnan(buckets[this]) and not np.isnan(plays[this])
        judged = known and len(others) >= max(least, 1)
        found.append(sum(play <= plays[this] for play in others) / len(others) if judged else NAN)
    return found


@given(st.integers(0, 10_000), st.sampled_from(["before", "all"]), st.integers(0, 4))
def test_percentiles_equal_a_loop_over_events(seed: int, history: str, least: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(0, 40))
    users = draw.integers(0, 3, count)  # not sorted: a user's events need not stand together
    buckets = np.where(draw.random(count) < 0.1, NAN, draw.integers(0, 3, count))
    plays = np.where(draw.random(count) < 0.1, NAN, draw.integers(0, 6, count))
    found = play_time_percentiles(users, buckets, plays, history, least)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, slow_percentiles(users, buckets, plays, history, least))


def test_the_top_quarter_is_above_and_dislike_wins() -> None:
    percentiles = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9, 1.0, NAN, NAN])
    disliked = np.zeros(10, bool)
    disliked[[7, 9]] = True  # also the one that stands on top, and one that cannot be judged
    assert advantages_of_batch(percentiles, disliked).tolist() == [0, 0, 0, 0, 0, 0, 1, -1, 0, -1]
    # With too many on top nobody is above.
    assert not advantages_of_batch(np.array([0.5, 1.0, 1.0, 1.0]), np.zeros(4, bool)).any()
    assert not advantages_of_batch(np.full(3, NAN), np.zeros(3, bool)).any()


def test_each_batch_has_its_own_top() -> None:
    users, durations = np.zeros(8, np.int64), np.full(8, 10.0)
    plays = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    config = DurationAwareConfig(history="all", least=1)
    together = duration_aware_advantages(users, plays, durations, np.zeros(8, bool), config=config)
    assert together.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    batches = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    apart = duration_aware_advantages(users, plays, durations, np.zeros(8, bool), batches, config)
    assert apart.tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_advantages_do_not_follow_duration_where_play_time_does() -> None:
    """People watch shares of a video that do not depend on its length."""
    draw = np.random.default_rng(0)
    users, durations = np.repeat(np.arange(300), 60), draw.lognormal(10, 1.0, 18_000)
    plays = durations * draw.random(18_000)
    none = np.zeros(18_000, bool)
    advantages = duration_aware_advantages(users, plays, durations, none, config=DurationAwareConfig(base=1.5))
    assert spearmanr(plays, durations)[0] > 0.5
    assert abs(spearmanr(advantages, durations)[0]) < 0.05
    assert advantages.mean() > 0.1  # a quarter of those that can be judged, less those that share the border


def dataset_with(tmp_path: Path, **columns: object) -> object:
    events = pl.DataFrame(
        {
            "user": ["a"] * 4,
            "item": [1, 2, 1, 2],
            "play": [5, None, 7, 8],
            "length": [10, 10, 0, None],
            "hate": pl.Series([0, 1, None, 0], dtype=pl.Int8),
        }
    )
    spec = DatasetSpec(
        name="plays",
        events=EventColumns(user="user", item="item", signals=["hate"], **columns),  # type: ignore[arg-type]
        items=ItemColumns(id="item"),
    )
    return write_dataset(tmp_path / "plays", spec, events, pl.DataFrame({"item": [1, 2]}))


def test_plays_are_read_with_what_is_unknown_and_refused_without_play_times(tmp_path: Path) -> None:
    dataset = dataset_with(tmp_path, play_time="play", duration="length")
    plays, durations, disliked = play_events(dataset, np.array([3, 2, 1, 0]), "hate")  # type: ignore[arg-type]
    np.testing.assert_array_equal(plays, [8, 7, NAN, 5])
    np.testing.assert_array_equal(durations, [NAN, NAN, 10, 10])
    assert disliked.tolist() == [False, False, True, False]
    assert not play_events(dataset, np.arange(4), None)[2].any()  # type: ignore[arg-type]
    with pytest.raises(UserError, match='no "hated"'):
        play_events(dataset, np.arange(4), "hated")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="play_time"):
        play_events(dataset_with(tmp_path / "untimed"), np.arange(4), None)  # type: ignore[arg-type]


@pytest.mark.skipif("ONEREC_DATA" not in os.environ, reason="set ONEREC_DATA to the folder with kuairand-pure")
def test_on_kuairand_advantages_do_not_follow_duration() -> None:
    dataset = read_dataset(Path(os.environ["ONEREC_DATA"]) / "kuairand-pure")
    rows = np.flatnonzero((dataset.events["period"] == "valid").to_numpy())
    users = dataset.events["user_id"].to_numpy()[rows]
    plays, durations, disliked = play_events(dataset, rows, "is_hate")
    advantages = duration_aware_advantages(users, plays, durations, disliked)
    known = ~np.isnan(durations)
    assert abs(spearmanr(advantages[known], durations[known])[0]) <= 0.05
    assert 0.02 < (advantages == 1).mean() < 0.25
