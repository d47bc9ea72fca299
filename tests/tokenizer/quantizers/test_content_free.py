"""Random and hash IDs: spread evenly, repeatable, and as far from content as can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.quantizers.content_free import ContentFree
from tokenizer.quantizers.hash import HashIDs
from tokenizer.quantizers.random import RandomIDs, permuted


def normal(items: int, width: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(items, width)).astype(np.float32)


@given(capacity=st.integers(1, 3000), seed=st.integers(0, 50))
def test_numbers_are_permuted(capacity: int, seed: int) -> None:
    numbers = permuted(np.arange(capacity, dtype=np.uint64), capacity, seed)
    np.testing.assert_array_equal(np.sort(numbers), np.arange(capacity))


def test_every_place_is_as_likely_as_any_other() -> None:
    first = [int(permuted(np.zeros(1, dtype=np.uint64), 6, seed)[0]) for seed in range(1200)]
    counts = np.bincount(first, minlength=6)
    assert np.square(counts - 200).sum() / 200 < 20.5  # chi-square with 5 degrees of freedom exceeds it once in 1,000


@pytest.mark.parametrize("method", [RandomIDs, HashIDs])
def test_codes_are_even_on_every_level_and_levels_independent(method: type[ContentFree]) -> None:
    x = normal(20_000)
    codes = method([10, 7]).fit(x).encode(x)
    counts = np.histogram2d(codes[:, 0], codes[:, 1], bins=[10, 7])[0]
    expected = 20_000 / 70
    assert np.square(counts - expected).sum() / expected < 111.1  # 69 degrees of freedom, once in 1,000


def test_random_ids_differ_while_there_are_any_left_and_go_on_for_new_items() -> None:
    x = normal(120)
    quantizer = RandomIDs([4, 6, 10]).fit(x)
    codes, more = quantizer.encode(x), quantizer.encode_new(x)
    assert len(np.unique(np.concatenate([codes, more]), axis=0)) == 240
    assert len(np.unique(RandomIDs([4, 6]).fit(x).encode(x), axis=0)) == 24


def test_more_ids_than_64_bits_can_count() -> None:
    x = normal(5000)
    codes = RandomIDs([256] * 12).fit(x).encode(x)
    assert len(np.unique(codes, axis=0)) == 5000
    assert all(len(np.unique(column)) == 256 for column in codes.T)


def test_equal_rows_share_their_hash_and_the_slightest_change_scatters_it() -> None:
    x = normal(500)
    x[:, 1] = 0.0
    quantizer = HashIDs([256, 256]).fit(x)
    codes = quantizer.encode(x)
    minus_zero, nudged = x.copy(), x.copy()
    minus_zero[:, 1] = -0.0
    nudged[:, 2] = np.nextafter(nudged[:, 2], np.float32(9))
    np.testing.assert_array_equal(quantizer.encode(minus_zero), codes)
    assert (quantizer.encode(nudged) == codes).mean() < 0.02  # one in 256 agrees by chance
