"""Features as codes: what is unknown, what training never showed, buckets, several values in a cell, saving."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onerec.data.contract import Dataset, DatasetSpec
from onerec.data.event_log import EventLog
from onerec.data.features import FeatureColumn, FeatureVocabulary, PathwaysConfig, event_values, feature_names
from onerec.errors import UserError

SPEC = DatasetSpec.model_validate(
    {
        "name": "made up",
        "events": {
            "user": "user",
            "item": "item",
            "time": "time",
            "signals": ["liked", "shared"],
            "play_time": "played",
            "duration": "long",
        },
        "items": {"id": "item", "categorical": ["author", "tag"], "numeric": ["year"]},
        "users": {"id": "user", "categorical": ["country"], "numeric": ["age"]},
    }
)
EVERYTHING = PathwaysConfig(event_features="all", item_features="all", user_features="all")


def dataset() -> Dataset:
    events = pl.DataFrame(
        {
            "user": ["a", "a", "b", "a", "b"],
            "item": [0, 1, 1, 2, 0],
            "time": [None, 5, 7, 9, 8],
            "liked": [1, 0, None, 1, 1],
            "shared": [None, None, None, 1, 0],
            "played": [5, 10, 3, 40, None],
            "long": [10, 10, 0, 20, 10],
        }
    )
    items = pl.DataFrame(
        {"item": [0, 1, 2, 3], "author": [7, 7, 8, None], "tag": ["x y", "y", "x,z", ""], "year": [1.0, 2.0, None, 4.0]}
    )
    users = pl.DataFrame({"user": ["b", "a"], "country": ["FR", None], "age": [30.0, 40.0]})
    return Dataset(Path("folder"), SPEC, EventLog(events), items, users, "")


ROWS, OFFSETS = np.array([0, 1, 3, 2, 4]), np.array([0, 3, 5])  # a: rows 0, 1, 3; b: rows 2, 4
TRAINED = np.array([True, True, False, True, True])


def vocabulary() -> FeatureVocabulary:
    names = feature_names(dataset(), EVERYTHING)["event"]
    values = event_values(dataset(), names, ROWS, OFFSETS)
    return FeatureVocabulary.fit(dataset(), EVERYTHING, values.filter(pl.Series(TRAINED)))


def test_names_are_spelt_out() -> None:
    found = feature_names(dataset(), PathwaysConfig(event_features=["time_gap", "signals", "liked"]))
    assert found == {"event": ["time_gap", "liked", "shared"], "item": [], "user": []}
    assert feature_names(dataset(), EVERYTHING) == {
        "event": ["liked", "shared", "play_ratio", "duration", "time_gap"],
        "item": ["author", "tag", "year"],
        "user": ["country", "age"],
    }


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"event_features": ["play_ration"]}, ["event_features", '"play_ration"', 'did you mean "play_ratio"']),
        ({"event_features": ["signal"]}, ['did you mean "signals"']),
        ({"item_features": ["autor"]}, ["item_features", 'did you mean "author"']),
        ({"user_features": ["zip"]}, ["user_features", "there is: country, age"]),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(asked: dict[str, list[str]], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        feature_names(dataset(), PathwaysConfig(**asked))  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in [*words, "dataset.yaml"])


def test_event_values_stay_with_their_event() -> None:
    values = event_values(dataset(), ["play_ratio", "time_gap", "duration", "liked"], ROWS, OFFSETS)
    assert values["play_ratio"].to_list() == [0.5, 1.0, 2.0, None, None]  # b's first event has a duration of 0
    assert values["time_gap"].to_list() == [None, None, 4.0, None, 1.0]  # a's first time is missing
    assert values["duration"].to_list() == [10.0, 10.0, 20.0, None, 10.0]
    assert values["liked"].to_list() == [1, 0, 1, None, 1]


def test_what_training_never_showed_is_unknown() -> None:
    """The only share (1) is behind the training events: it reads like a share that was not logged, and 0 does not."""
    learnt = vocabulary()
    codes = learnt.event_codes(event_values(dataset(), [column.name for column in learnt.event], ROWS, OFFSETS))
    assert codes[:, 0].tolist() == [2, 1, 2, 0, 2]  # liked
    assert codes[:, 1].tolist() == [0, 0, 0, 0, 1]  # shared
    assert (codes[:, 2] == 0).tolist() == [False, False, False, True, True]
    assert learnt.event[1].size == 2


def test_a_column_that_training_never_showed_has_one_code() -> None:
    column = FeatureColumn.of_number("time_gap", pl.Series([None, None], dtype=pl.Float64))
    assert column.size == 1
    assert column.encode(pl.Series([1.0, None])).tolist() == [0, 0]
    assert FeatureColumn.of_category("x", pl.Series([None], dtype=pl.Int8)).encode(pl.Series([1])).tolist() == [0]


def test_buckets_hold_about_as_many_values_each() -> None:
    numbers = pl.Series(np.random.default_rng(0).exponential(size=1600))
    column = FeatureColumn.of_number("long", numbers)
    codes = column.encode(numbers)
    assert column.size == 17
    assert set(np.bincount(codes)[1:]) == {100}
    assert column.encode(pl.Series([-1e9, 1e9, None])).tolist() == [1, 16, 0]
    order = np.argsort(numbers.to_numpy())
    assert (np.diff(codes[order]) >= 0).all()


def test_items_have_the_codes_that_others_share() -> None:
    author, tag, year = np.moveaxis(vocabulary().item_codes_NGM, 1, 0)
    assert author[:, 0].tolist() == [1, 1, 0, 0]  # author 8 has one item
    assert tag.tolist() == [[1, 2], [2, 0], [1, 0], [0, 0]]  # z has one item
    assert (year[:, 0] == 0).tolist() == [False, False, True, False]


def test_users_without_a_row_are_unknown() -> None:
    codes = vocabulary().user_codes(dataset(), pl.Series(["a", "b", "nobody"]))
    assert codes[:, 0].tolist() == [0, 1, 0]
    assert codes[2].tolist() == [0, 0]
    assert (codes[:2, 1] > 0).all()


def test_a_vocabulary_is_saved_with_borders_and_values(tmp_path: Path) -> None:
    learnt = vocabulary()
    learnt.save(tmp_path / "features")
    loaded = FeatureVocabulary.load(tmp_path / "features")
    assert (loaded.event, loaded.item, loaded.user) == (learnt.event, learnt.item, learnt.user)
    assert np.array_equal(loaded.item_codes_NGM, learnt.item_codes_NGM)
    (tmp_path / "features" / "features.json").write_text("[]")
    with pytest.raises(UserError, match="features"):
        FeatureVocabulary.load(tmp_path / "features")
