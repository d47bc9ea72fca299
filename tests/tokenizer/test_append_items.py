"""New items join: nothing published moves, every ID is its own, and there is always room."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.append import append_items, format_report, in_order_of, with_room
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.spec import QuantizerSpec, RQKMeansSpec
from tokenizer.semantic_ids import SemanticIds
from tokenizer.tokenize import load_quantizer, tokenize_items

WAYS = ["nearest_free", "append_code", "sinkhorn"]
SMALL = RQKMeansSpec(iterations=3)


def clustered(items: int, seed: int, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(10, width))
    return (centres[rng.integers(10, size=items)] + 0.2 * rng.normal(size=(items, width))).astype(np.float32)


def fitted(x: np.ndarray, sizes: list[int], unique: str = "nearest_free") -> SemanticIds:
    spec = QuantizerSpec(level_sizes=sizes, unique=unique, rq_kmeans=SMALL)  # type: ignore[arg-type]
    return tokenize_items(x, pl.Series("film", [f"f{row}" for row in range(len(x))]), spec)


def named(start: int, items: int) -> pl.Series:
    return pl.Series([f"f{row}" for row in range(start, start + items)])


def check_joined(before: SemanticIds, after: SemanticIds, new: int) -> None:
    old = len(before.item_ids)
    assert after.item_ids[:old].to_list() == before.item_ids.to_list()
    np.testing.assert_array_equal(after.codes_NL[:old], before.codes_NL)
    np.testing.assert_array_equal(after.quantizer_codes_NQ[:old], before.quantizer_codes_NQ)
    assert len(after.item_ids) == len(after.codes_NL) == old + new
    assert len(np.unique(after.codes_NL, axis=0)) == old + new
    assert (after.codes_NL < after.level_sizes).all()
    assert after.level_sizes[:-1] == before.level_sizes[:-1]
    assert after.config == before.config
    report = after.quality["appended"][-1]
    assert (report["items"], report["items_before"]) == (new, old)
    assert report["last_level_grew_by"] == after.level_sizes[-1] - before.level_sizes[-1]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(WAYS),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 12),
    st.lists(st.integers(1, 30), min_size=1, max_size=3),
    st.integers(0, 5),
)
def test_joining_again_and_again_moves_nobody(
    unique: str, sizes: list[int], items: int, joins: list[int], seed: int
) -> None:
    """Also where the table is full from the start or becomes so on the way."""
    items = min(items, int(np.prod([min(size, items) for size in sizes])))
    ids = fitted(clustered(items, seed), with_room(sizes, items), unique)
    for turn, new in enumerate(joins):
        joined = append_items(ids, named(len(ids.item_ids), new), clustered(new, 100 * seed + turn))
        check_joined(ids, joined, new)
        ids = joined
    assert len(ids.quality["appended"]) == len(joins)


@pytest.mark.parametrize("unique", WAYS)
def test_new_items_get_the_codes_they_are_encoded_to_unless_those_are_taken(unique: str) -> None:
    x, new = clustered(300, 0), clustered(80, 1)
    ids = fitted(x, [8, 8, 8], unique)
    joined = append_items(ids, named(300, 80), new)
    check_joined(ids, joined, 80)
    quantizer = load_quantizer(ids)
    wishes, given_ids = quantizer.encode_new(new), joined.codes_NL[300:]
    np.testing.assert_array_equal(joined.quantizer_codes_NQ[300:], wishes)
    report = joined.quality["appended"][0]
    if unique == "append_code":
        np.testing.assert_array_equal(given_ids[:, :3], wishes)
        assert report["moved"] == (given_ids[:, 3] > 0).sum()
        assert report["extra_error"] == 0.0
        return
    assert report["moved"] == (given_ids != wishes).any(axis=1).sum()
    taken = {tuple(code) for code in ids.codes_NL.tolist()}
    distance = np.square(quantizer.decode(wishes) - new).sum(axis=1)
    for wish in {tuple(wish) for wish in wishes.tolist()} - taken:
        rivals = np.flatnonzero((wishes == wish).all(axis=1))
        assert tuple(given_ids[rivals[distance[rivals].argmin()]]) == wish  # the closest one gets it
    left = (given_ids[:, :2] != wishes[:, :2]).any(axis=1)
    assert left.any()
    for prefix in wishes[left, :2]:
        assert (joined.codes_NL[:, :2] == prefix).all(axis=1).sum() == 8  # it was full


def test_numbers_of_an_appended_code_go_on() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32), [3, 1, 2], axis=0)  # three groups of identical items
    ids = fitted(x, [3], "append_code")
    assert ids.level_sizes == [3, 3]
    joined = append_items(ids, named(6, 4), np.eye(3, dtype=np.float32)[[1, 0, 1, 0]])
    groups = {tuple(code): number for code, number in zip(x.tolist(), ids.codes_NL[:, 0].tolist(), strict=True)}
    first, second = groups[1.0, 0.0, 0.0], groups[0.0, 1.0, 0.0]
    assert joined.codes_NL[6:].tolist() == [[second, 1], [first, 3], [second, 2], [first, 4]]
    assert joined.level_sizes == [3, 5]
    assert "grew from 3 to 5 codes when 4 items were appended" in joined.quality["notes"][-1]


def test_a_full_table_grows_by_as_little_as_makes_room_and_says_so() -> None:
    x = clustered(12, 3)
    ids = fitted(x, [3, 4])
    joined = append_items(ids, named(12, 4), x[:4])
    check_joined(ids, joined, 4)
    assert joined.level_sizes == [3, 6]
    assert "grew from 4 to 6 codes when 4 items were appended" in joined.quality["notes"][-1]
    assert "cannot generate the new codes" in joined.quality["notes"][-1]
    assert "the last level grew by 2 codes" in format_report(joined.quality["appended"][0])
    more = append_items(joined, named(16, 2), x[:2])  # fits into what is there now
    assert more.level_sizes == [3, 6]
    assert len(more.quality["notes"]) == len(joined.quality["notes"])


@pytest.mark.parametrize(
    ("new_ids", "message"),
    [
        (["f300", "f7"], "'f7' already has a semantic ID"),
        (["f300", "f300"], "'f300' occurs twice"),
        (["f300", None], "row 1 is null"),
        ([1, 2], "their ids are Int64, but the ids of the old items are String"),
        (["f300"], "2 vectors for 1 new item ids"),
        ([], "there are none"),
    ],
)
def test_ids_that_do_not_fit_are_refused_by_name(new_ids: list[object], message: str) -> None:
    ids = fitted(clustered(20, 0), [4, 8])
    with pytest.raises(TokenizerError, match=message):
        append_items(ids, pl.Series(new_ids), clustered(2, 1))


def test_vectors_that_do_not_fit_are_refused() -> None:
    ids = fitted(clustered(20, 0), [4, 8])
    broken = clustered(2, 1)
    broken[1, 2] = np.nan
    with pytest.raises(TokenizerError, match="vectors of new items: row 1 holds NaN"):
        append_items(ids, named(20, 2), broken)
    with pytest.raises(TokenizerError, match="5 columns"):
        append_items(ids, named(20, 2), clustered(2, 1, width=6)[:, :5])


def test_rows_can_be_put_into_another_order() -> None:
    ids = fitted(clustered(20, 0), [4, 8])
    order = np.random.default_rng(0).permutation(20)
    turned = in_order_of(ids, ids.item_ids.gather(order))
    np.testing.assert_array_equal(turned.codes_NL, ids.codes_NL[order])
    np.testing.assert_array_equal(turned.quantizer_codes_NQ, ids.quantizer_codes_NQ[order])
    assert turned.item_ids.to_list() == ids.item_ids.gather(order).to_list()
    with pytest.raises(TokenizerError, match="'f20' has no semantic ID yet"):
        in_order_of(ids, named(0, 21))
    with pytest.raises(TokenizerError, match="'f0' has a semantic ID but is missing from"):
        in_order_of(ids, named(1, 19))


def test_the_report_says_whether_new_items_landed_among_their_like() -> None:
    x, new = clustered(400, 0), clustered(100, 1)
    ids = fitted(x, [10, 8, 64])
    near = append_items(ids, named(400, 100), new, old_sample=(np.arange(400), x)).quality["appended"][0]
    figures = near["neighbours"]
    assert (figures["items"], figures["old_items"], figures["k"]) == (100, 400, 10)
    assert figures["same_prefix"][0] > 0.95  # ten clusters, ten codes
    assert figures["chance"][0] < 0.8
    assert figures["same_prefix"][1] > 2 * figures["chance"][1]
    quantizer = load_quantizer(ids)
    error = np.square(quantizer.decode(quantizer.encode_new(new)) - new).sum(axis=1).mean()
    assert near["reconstruction_error"] == pytest.approx(error, rel=1e-4)
    assert near["reconstruction_error_before"] == ids.quality["reconstruction"]["mean_squared_error"]
    assert "begin with the same 2 codes" in format_report(near)


def test_a_thousand_into_forty_thousand_is_quick() -> None:
    x = np.random.default_rng(0).normal(size=(40_000, 8)).astype(np.float32)
    ids = fitted(x, [64, 64, 64])
    started = time.process_time()
    joined = append_items(ids, named(40_000, 1000), x[:1000] + np.float32(0.01))
    assert time.process_time() - started < 1  # measured 0.04
    check_joined(ids, joined, 1000)
