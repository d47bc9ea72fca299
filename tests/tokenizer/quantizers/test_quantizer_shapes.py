"""Any number of levels, of any sizes, on any vectors: nothing breaks, nothing is NaN, and what is saved comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_cases import LIGHT, TRAINED, clustered, every_method, make


def check_any_shape(case: str, x: np.ndarray, level_sizes: list[int]) -> None:
    quantizer = make(case, level_sizes, steps=3, hidden=[4], batch_size=8).fit(x)
    codes, codebooks, latent = quantizer.encode(x), quantizer.codebooks, quantizer.latent(x)
    assert codes.shape == (len(x), len(level_sizes)) and codes.dtype == np.int32
    assert (codes >= 0).all() and (codes < level_sizes).all()
    assert [codebook.shape for codebook in codebooks] == [(size, latent.shape[1]) for size in level_sizes]
    assert all(np.isfinite(codebook).all() for codebook in codebooks)
    decoded = quantizer.decode(codes)
    assert decoded.shape == x.shape and np.isfinite(decoded).all() and np.isfinite(latent).all()
    restored = type(quantizer).load(quantizer.config(), quantizer.state_dict())
    np.testing.assert_array_equal(restored.encode(x), codes)
    np.testing.assert_array_equal(restored.decode(codes), decoded)
    assert quantizer.encode_new(x[:1]).shape == (1, len(level_sizes))


@st.composite
def any_vectors(draw: st.DrawFn) -> np.ndarray:
    """Few or many rows and columns, with duplicates, zeros, one far row and extreme scales now and then."""
    items, width = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(items, width))
    kind = draw(st.sampled_from(["plain", "duplicates", "zeros", "far row", "tiny", "huge", "one column"]))
    if kind == "duplicates":
        x = x[np.arange(items) % max(1, items // 4)]
    elif kind == "zeros":
        x[::2] = 0
    elif kind == "far row":
        x[0] = 1e6
    elif kind == "one column":
        x[:, 1:] = 0
    return np.asarray(x * {"tiny": 1e-12, "huge": 1e12}.get(kind, 1.0), dtype=np.float32)


any_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@pytest.mark.parametrize("case", LIGHT)
@settings(max_examples=15)
@given(x=any_vectors(), level_sizes=any_sizes)
def test_any_number_of_levels_and_any_sizes(case: str, x: np.ndarray, level_sizes: list[int]) -> None:
    check_any_shape(case, x, level_sizes)


@pytest.mark.parametrize("case", sorted(TRAINED))
@settings(max_examples=6)
@given(x=any_vectors(), level_sizes=any_sizes)
def test_any_number_of_levels_and_any_sizes_trained(case: str, x: np.ndarray, level_sizes: list[int]) -> None:
    check_any_shape(case, x, level_sizes)


@every_method
def test_levels_of_one_code(case: str) -> None:
    check_any_shape(case, clustered(30), [1, 5, 1])
    check_any_shape(case, clustered(30), [1])
    check_any_shape(case, clustered(30, width=2), [3, 3, 3])  # more levels than columns
