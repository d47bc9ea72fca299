"""Slow and fast frames: cuts are slow, stillness is fast, and the token budget is met to the token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.content.frames import patch_similarity, slow_frames, spread_budget
from tokenizer.errors import TokenizerError


def scene(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Blocks of random colour, as unlike from scene to scene as pictures are."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((height // 6 + 1, width // 8 + 1, 1), dtype=np.uint8))[:height, :width]


def noisy(frame: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-6, 7, frame.shape)
    return np.clip(frame.astype(int) + noise, 0, 255).astype(np.uint8)


def test_cuts_are_slow_and_the_rest_of_a_scene_is_fast() -> None:
    frames = [noisy(scene(number // 5), seed=number) for number in range(20)]
    assert np.flatnonzero(slow_frames(frames)).tolist() == [0, 5, 10, 15]


def test_a_drift_is_measured_from_the_last_slow_frame() -> None:
    frames = [np.full((56, 56, 3), 100 + 4 * number, dtype=np.uint8) for number in range(12)]  # 1.6 % a step
    assert np.flatnonzero(slow_frames(frames)).tolist() == [0, 4, 8]  # 3 steps are within the 5 % of a patch, 4 are not


def test_the_frame_to_compare_with_is_the_slow_one_not_the_one_before() -> None:
    a, b = scene(1), scene(2)
    half = a.copy()
    half[:60] = b[:60]
    assert slow_frames([a, half, a, half]).tolist() == [True, True, True, True]
    assert slow_frames([a, noisy(a, 0), a, b]).tolist() == [True, False, False, True]


def test_more_than_95_percent_of_the_patches_must_agree() -> None:
    first = np.zeros((280, 280, 3), dtype=np.uint8)  # 100 patches
    for changed, slow in ((4, False), (5, True), (6, True)):
        other = first.copy()
        other[:28, : 28 * changed] = 255
        assert patch_similarity(first, other) == pytest.approx(1 - changed / 100)
        assert slow_frames([first, other])[1] == slow


@pytest.mark.parametrize("size", [(1, 1), (27, 29), (56, 57), (100, 300)])
def test_frames_of_any_size(size: tuple[int, int]) -> None:
    dark, bright = np.zeros((*size, 3), dtype=np.uint8), np.full((*size, 3), 255, dtype=np.uint8)
    assert patch_similarity(dark, dark) == 1
    assert patch_similarity(dark, bright) == patch_similarity(bright, dark) == 0


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20_000))
def test_the_budget_is_met_exactly(later_frames: list[bool], budget: int) -> None:
    slow_T = np.asarray([True, *later_frames])
    tokens_T = spread_budget(slow_T, budget)
    assert tokens_T.sum() == budget
    slow, fast = tokens_T[slow_T], tokens_T[~slow_T]
    assert slow.min() >= 0 and np.ptp(slow) <= 1
    assert (np.diff(slow) <= 0).all() and (np.diff(fast) <= 0).all()  # what is left goes to the earliest
    if len(fast):
        assert np.ptp(fast) <= 1 and fast.min() >= 0
        assert fast.max() <= slow.min() + 1
        assert abs(fast.mean() - 0.3 * slow.mean()) <= 1.3  # rounding, and at most one token of what was left


def test_a_fast_frame_gets_three_tenths_of_a_slow_one() -> None:
    assert spread_budget(np.array([True, False, True]), 230).tolist() == [100, 30, 100]


def test_faults_are_refused() -> None:
    with pytest.raises(TokenizerError, match="cannot be compared"):
        slow_frames([scene(1), scene(1, width=80)])
