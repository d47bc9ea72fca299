"""Balanced RQ-KMeans: even codes on every level, new items for themselves, memory within its setting."""

import subprocess
import sys

import numpy as np
import pytest

from tokenizer.errors import TokenizerError
from tokenizer.quantizers.balanced_rq_kmeans import BalancedRQKMeans
from tokenizer.quantizers.rq_kmeans import RQKMeans

MILLION = """
import resource, sys
import numpy as np
from tokenizer.quantizers.{module} import {name}

x = np.random.default_rng(0).standard_normal((1_000_000, 4), dtype=np.float32)
quantizer = {name}({sizes}, iterations=3, fit_rows=20_000, memory_mib=32)
quantizer.fit(x[:2000]).encode(x[:2000])  # what the libraries allocate once is not the quantizer's
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = quantizer.fit(x).encode(x)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
sizes = [np.bincount(codes[:, level], minlength=16) for level in range(codes.shape[1])]
print(grown, max(int(np.ptp(size)) for size in sizes), min(int(size.min()) for size in sizes))
"""


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


def test_what_was_saved_encodes_the_same_and_broken_prices_are_named() -> None:
    x = skewed()
    quantizer = BalancedRQKMeans([8, 4], iterations=5, seed=3).fit(x)
    state = quantizer.state_dict()
    again = BalancedRQKMeans.load(quantizer.config(), state)
    np.testing.assert_array_equal(again.encode(x), quantizer.encode(x))
    np.testing.assert_array_equal(again.encode_new(x), quantizer.encode_new(x))
    with pytest.raises(TokenizerError, match=r"'price_2' should have shape \(4,\), found nothing"):
        BalancedRQKMeans.load(quantizer.config(), {name: array for name, array in state.items() if name != "price_2"})


@pytest.mark.parametrize(
    ("module", "name", "sizes", "extra_mib", "spread"),
    [
        ("rq_kmeans", "RQKMeans", [16, 16], 8, None),  # the codes
        ("balanced_rq_kmeans", "BalancedRQKMeans", [16], 4 + 44, 1),  # and cluster, regret and order of every row
    ],
)
def test_a_million_rows_within_the_memory_setting(
    module: str, name: str, sizes: list[int], extra_mib: int, spread: int | None
) -> None:
    script = MILLION.format(module=module, name=name, sizes=sizes)
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    grown, difference, smallest = map(float, answer.stdout.split())
    assert grown < 32 + extra_mib
    assert smallest > 0
    assert spread is None or difference <= spread
