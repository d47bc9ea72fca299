"""Residual codes: by tables or by residuals the same, beams as wide as all combinations find the best there is."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from quantizer_cases import lost

from tokenizer.quantizers import residual as module
from tokenizer.quantizers.residual import ResidualEncoder, sum_of_rows
from tokenizer.quantizers.rq_kmeans import RQKMeans


def case(seed: int, rows: int, width: int, sizes: list[int]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    generator = np.random.default_rng(seed)
    codebooks = [
        (0.6**level * generator.standard_normal((size, width))).astype(np.float32) for level, size in enumerate(sizes)
    ]
    return generator.standard_normal((rows, width)).astype(np.float32), codebooks


def plainly(x: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    residual, codes = x.astype(np.float64), []
    for codebook in codebooks:
        codes.append(np.square(residual[:, None] - codebook[None]).sum(-1).argmin(1))
        residual = residual - codebook[codes[-1]]
    return np.stack(codes, axis=1)


@pytest.mark.parametrize("memory_mib", [1, 64])
@pytest.mark.parametrize("sizes", [[7], [12, 12, 12], [5, 1, 20, 3], [40, 40]])
def test_tables_and_residuals_give_the_codes_of_the_plain_loop(
    sizes: list[int], memory_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, codebooks = case(1, 3000, 64, sizes)  # more rows than fit into 1 MiB at once
    expected = plainly(x, codebooks)
    by_tables = ResidualEncoder(codebooks, memory_mib=memory_mib)
    assert by_tables.uses_tables == (len(sizes) > 1)
    np.testing.assert_array_equal(by_tables.encode(x), expected)
    monkeypatch.setattr(module, "TABLE_ROWS_PER_COLUMN", 0)
    by_residuals = ResidualEncoder(codebooks, memory_mib=memory_mib)
    assert not by_residuals.uses_tables
    np.testing.assert_array_equal(by_residuals.encode(x), expected)


def test_codes_are_nearest_for_rows_that_sit_on_sums_of_codes() -> None:
    _, codebooks = case(2, 1, 64, [30, 30, 30])
    codes = np.random.default_rng(2).integers(30, size=(400, 3)).astype(np.int32)
    x = sum_of_rows(codes, codebooks) + 100  # the expanded form loses digits here: what it finds must still be nearest
    shifted = [codebooks[0] + 100, *codebooks[1:]]
    found = ResidualEncoder(shifted).encode(x)
    plain = plainly(x, shifted)
    error, least = (np.square(x - sum_of_rows(each, shifted)).sum(1) for each in (found, plain))
    np.testing.assert_allclose(error, least, atol=1e-2)


@pytest.mark.parametrize("memory_mib", [1, 64])
def test_a_beam_of_all_combinations_finds_the_best_one(memory_mib: int) -> None:
    sizes = [4, 3, 5]
    x, codebooks = case(3, 300, 8, sizes)
    every = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int32)
    error = np.square(x[:, None] - sum_of_rows(every, codebooks)[None]).sum(-1)
    found = ResidualEncoder(codebooks, beam_width=4 * 3, memory_mib=memory_mib).encode(x)
    np.testing.assert_array_equal(found, every[error.argmin(1)])
    without_tables = ResidualEncoder(codebooks, beam_width=4 * 3, memory_mib=memory_mib)
    without_tables.uses_tables = False
    np.testing.assert_array_equal(without_tables.encode(x), found)


def test_wider_beams_lower_the_error() -> None:
    x, codebooks = case(4, 800, 16, [16, 16, 16])
    errors = []
    for width in (1, 2, 8):
        codes = ResidualEncoder(codebooks, beam_width=width).encode(x)
        errors.append(float(np.square(x - sum_of_rows(codes, codebooks)).sum()))
    assert errors[0] > errors[1] > errors[2]


def test_beam_width_is_a_setting_of_rq_kmeans() -> None:
    x, _ = case(6, 600, 12, [1])
    greedy, beamed = (RQKMeans([16, 16, 16], beam_width=width).fit(x) for width in (1, 5))
    for one, other in zip(greedy.codebooks, beamed.codebooks, strict=True):
        np.testing.assert_array_equal(one, other)  # the beam is for encoding only
    assert lost(beamed, x) < lost(greedy, x)
    assert RQKMeans.load(beamed.config(), beamed.state_dict()).settings.beam_width == 5
