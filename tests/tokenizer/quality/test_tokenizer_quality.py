"""Quality figures against slow, obvious reference computations."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.quality.figures import collisions, format_quality, gini, level_figures, overall_figures, quality_figures
from tokenizer.quality.reconstruction import lost_by_level, reconstruction
from tokenizer.unique.collisions import append_code


def figures_of(codes: np.ndarray, level_sizes: list[int], **more: Any) -> dict[str, Any]:
    """Figures of unit vectors; the first level's codebook holds them, the others hold zeros."""
    unit = np.eye(len(codes), level_sizes[0], dtype=np.float32)
    codebooks = [np.eye(level_sizes[0], dtype=np.float32)]
    codebooks += [np.zeros((size, level_sizes[0]), dtype=np.float32) for size in level_sizes[1:]]
    unique = append_code(codes, level_sizes)
    return quality_figures(unit, unit, codes, level_sizes, unique, latent_NW=unit, codebooks=codebooks, **more)


def slow_entropy(counts: list[int]) -> float:
    return -sum(n / sum(counts) * math.log(n / sum(counts)) for n in counts if n)


def slow_gini(counts: list[int]) -> float:
    """Mean absolute difference of every two codes over twice the mean."""
    pairs = [abs(left - right) for left in counts for right in counts]
    return sum(pairs) / len(pairs) / (2 * sum(counts) / len(counts))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_levels_and_collisions_equal_a_slow_reference(items: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, size, size=(items, 2))
    for level, figures in enumerate(level_figures(codes, [size, size + 1])):
        counts = Counter(codes[:, level].tolist())
        entropy = slow_entropy(list(counts.values()))
        assert figures["used"] == len(counts)
        assert figures["utilisation"] == pytest.approx(len(counts) / (size + level))
        assert figures["entropy"] == pytest.approx(entropy, abs=1e-12)
        assert figures["perplexity"] == pytest.approx(math.exp(entropy))
        share = entropy / math.log(size + level) if size + level > 1 else 1.0
        assert figures["entropy_share"] == pytest.approx(share, abs=1e-12)
        loads = [counts.get(code, 0) for code in range(size + level)]
        assert figures["gini"] == pytest.approx(slow_gini(loads), abs=1e-12)
        assert figures["largest_load"] == max(loads)
        assert figures["largest_share"] == pytest.approx(max(loads) / items)
    groups = Counter(map(tuple, codes.tolist()))
    shared = sum(n for n in groups.values() if n > 1) / items
    expected = {"share_of_items": shared, "largest_group": max(groups.values()), "distinct_codes": len(groups)}
    assert collisions(codes) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1000))
def test_whole_code_sequences_equal_a_slow_reference(items: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, size, size=(items, 2))
    figures = overall_figures(codes, [size, size])
    groups = list(Counter(map(tuple, codes.tolist())).values())
    places = min(items, size * size)
    assert (figures["capacity"], figures["places"]) == (size * size, places)
    assert figures["utilisation"] == pytest.approx(len(groups) / places)
    assert figures["entropy"] == pytest.approx(slow_entropy(groups), abs=1e-12)
    assert figures["gini"] == pytest.approx(slow_gini(groups + [0] * (places - len(groups))), abs=1e-12)
    apart = sum(slow_entropy(list(Counter(column.tolist()).values())) for column in codes.T)
    assert figures["levels_in_common"] == pytest.approx(apart - slow_entropy(groups), abs=1e-9)


def test_extremes_of_capacity_and_gini() -> None:
    figures = overall_figures(np.zeros((3, 8), dtype=np.int32), [4096] * 8)
    assert json.loads(json.dumps(figures))["capacity"] == 4096**8  # more than a machine integer holds
    assert gini(np.full(7, 3)) == 0.0
    assert gini(np.array([0, 0, 0, 12])) == pytest.approx(0.75)
    assert gini(np.zeros(5)) == 0.0


def test_reconstruction_share_is_zero_for_perfect_and_one_for_the_mean() -> None:
    x = np.random.default_rng(0).normal(5, 2, size=(200, 7))
    assert reconstruction(x, x) == {"mean_squared_error": 0.0, "share_of_variance": 0.0}
    mean = np.tile(x.mean(0), (200, 1))
    assert reconstruction(x, mean)["share_of_variance"] == pytest.approx(1.0)
    assert reconstruction(x, mean)["mean_squared_error"] == pytest.approx(sum(x.var(axis=0)))
    same = np.full((4, 3), 1.1, dtype=np.float32)
    assert reconstruction(same, same)["share_of_variance"] == 0.0
    assert reconstruction(same, same + 1)["share_of_variance"] == 1.0


def test_what_is_lost_after_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    latent, codes = generator.normal(size=(50, 4)).astype(np.float32), generator.integers(0, 3, size=(50, 3))
    codebooks = [generator.normal(size=(3, 4)).astype(np.float32) for _ in range(3)]
    variance = sum(np.var(latent.astype(float), axis=0))
    decoded = [sum(codebooks[level][codes[:, level]] for level in range(depth)) for depth in (1, 2, 3)]
    expected = [np.square(latent - rows).sum() / 50 / variance for rows in decoded]
    assert lost_by_level(latent, codebooks, codes) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr("tokenizer.quality.reconstruction.CHUNK_ELEMENTS", 12)  # three rows at a time
    assert lost_by_level(latent, codebooks, codes) == pytest.approx(expected, rel=1e-5)
    assert reconstruction(latent, decoded[-1])["share_of_variance"] == pytest.approx(expected[-1], rel=1e-5)


def test_figures_are_plain_json_and_print_as_a_table() -> None:
    codes = np.array([[0, 1], [0, 1], [2, 0]])
    figures = figures_of(codes, [3, 2], notes=["a remark"], neighbours_P2=np.array([[0, 1], [2, 0]]))
    assert json.loads(json.dumps(figures)) == figures
    collided = {"share_of_items": 2 / 3, "largest_group": 2, "distinct_codes": 2}
    assert figures["collisions_before"] == pytest.approx(collided)
    assert figures["collisions_after"]["share_of_items"] == 0
    assert figures["moved"] == 1
    assert [level["size"] for level in figures["id_levels"]] == [3, 2, 2]
    assert [prefix["distinct"] for prefix in figures["prefixes"]] == [2, 2, 3]
    # rows 0 and 2 are met exactly by their first code; row 1 misses by (1, -1, 0); the variance is 3 * 2/9
    assert [level["variance_lost"] for level in figures["levels"]] == pytest.approx([1.0, 1.0])
    assert figures["neighbours"]["prefix_agreement"] == [0.5, 0.5]
    shared, printed = "66.67% of the items shared their codes", format_quality(figures)
    for words in (shared, "first 1 code", "a remark", "of 2 held-out pairs 50.00% share 1"):
        assert words in printed
    # an artefact of an older version still prints
    for level in figures["levels"]:
        for key in ("gini", "largest_load", "largest_share", "variance_lost"):
            del level[key]
    del figures["prefixes"], figures["overall"], figures["neighbours"]
    assert shared in format_quality(figures)


def test_the_table_keeps_its_columns_apart() -> None:
    generator = np.random.default_rng(0)
    sizes = [8, 4096, 4096]
    printed = format_quality(figures_of(generator.integers(0, sizes, size=(30_000, 3)), sizes)).splitlines()
    head = next(index for index, line in enumerate(printed) if line.startswith("level"))
    assert {len(line) for line in printed[head : head + 4]} == {len(printed[head])}
