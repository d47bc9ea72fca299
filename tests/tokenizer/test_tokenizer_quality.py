"""Quality figures against slow, obvious reference computations."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.quality import collisions, format_quality, level_figures, quality_figures, reconstruction
from tokenizer.unique import append_code


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_levels_and_collisions_equal_a_slow_reference(items: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, size, size=(items, 2))
    for level, figures in enumerate(level_figures(codes, [size, size + 1])):
        counts = Counter(codes[:, level].tolist())
        entropy = -sum(n / items * math.log(n / items) for n in counts.values())
        assert figures["used"] == len(counts)
        assert figures["utilisation"] == pytest.approx(len(counts) / (size + level))
        assert figures["entropy"] == pytest.approx(entropy, abs=1e-12)
        assert figures["perplexity"] == pytest.approx(math.exp(entropy))
        share = entropy / math.log(size + level) if size + level > 1 else 1.0
        assert figures["entropy_share"] == pytest.approx(share, abs=1e-12)
    groups = Counter(map(tuple, codes.tolist()))
    shared = sum(n for n in groups.values() if n > 1) / items
    expected = {"share_of_items": shared, "largest_group": max(groups.values()), "distinct_codes": len(groups)}
    assert collisions(codes) == pytest.approx(expected)


def test_reconstruction_share_is_zero_for_perfect_and_one_for_the_mean() -> None:
    x = np.random.default_rng(0).normal(5, 2, size=(200, 7))
    assert reconstruction(x, x) == {"mean_squared_error": 0.0, "share_of_variance": 0.0}
    mean = np.tile(x.mean(0), (200, 1))
    assert reconstruction(x, mean)["share_of_variance"] == pytest.approx(1.0)
    assert reconstruction(x, mean)["mean_squared_error"] == pytest.approx(sum(x.var(axis=0)))
    same = np.full((4, 3), 1.1, dtype=np.float32)
    assert reconstruction(same, same)["share_of_variance"] == 0.0


def test_figures_are_plain_json_and_print_as_a_table() -> None:
    codes = np.array([[0, 1], [0, 1], [2, 0]])
    figures = quality_figures(np.eye(3), np.eye(3), codes, [3, 2], append_code(codes, [3, 2]), ["a remark"])
    assert json.loads(json.dumps(figures)) == figures
    assert figures["collisions_before"] == {
        "share_of_items": pytest.approx(2 / 3),
        "largest_group": 2,
        "distinct_codes": 2,
    }
    assert figures["collisions_after"]["share_of_items"] == 0
    assert figures["moved"] == 1
    assert [level["size"] for level in figures["id_levels"]] == [3, 2, 2]
    printed = format_quality(figures)
    assert "66.67% of the items shared their codes" in printed
    assert "a remark" in printed
