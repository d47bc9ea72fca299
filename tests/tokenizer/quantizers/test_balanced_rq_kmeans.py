"""Balanced RQ-KMeans: even codes on every level, and new items encoded independently."""

import numpy as np

from tokenizer.quantizers.balanced_rq_kmeans import BalancedRQKMeans
from tokenizer.quantizers.rq_kmeans import RQKMeans


def skewed(seed: int = 0, rows: int = 700, width: int = 8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, width)) * generator.exponential(size=(rows, 1))
    return x.astype(np.float32)


def test_codes_are_even_on_every_level_for_fitted_and_for_other_rows() -> None:
    quantizer = BalancedRQKMeans([16, 9, 5]).fit(skewed())
    for x in (skewed(), skewed(1, rows=333), np.repeat(skewed(2, rows=10), 30, axis=0), skewed(3, rows=4)):
        codes = quantizer.encode(x)
        for level, size in enumerate(quantizer.level_sizes):
            assert np.ptp(np.bincount(codes[:, level], minlength=size)) <= 1


def test_new_items_are_encoded_each_for_itself_and_about_evenly() -> None:
    quantizer = BalancedRQKMeans([16, 16]).fit(skewed(rows=2000))
    plain = RQKMeans([16, 16]).fit(skewed(rows=2000))
    new = skewed(9, rows=2000)
    codes = quantizer.encode_new(new)
    np.testing.assert_array_equal(quantizer.encode_new(new[::-1])[::-1], codes)
    np.testing.assert_array_equal(quantizer.encode_new(new[5:6])[0], codes[5])
    load, plain_load = np.bincount(codes[:, 0], minlength=16), np.bincount(plain.encode(new)[:, 0], minlength=16)
    assert load.max() < 2 * 2000 / 16
    assert load.std() < 0.5 * plain_load.std()
