"""Slow and fast frames of a video and their token budget (Keye-VL-1.5 technical report, arXiv 2509.01563).

The first frame is slow. A frame so like the last slow one that more than 95 % of its patches agree is fast, any other is
slow. A fast frame gets 30 % of the tokens of a slow one. The tokens of a slow frame are found by binary search under the
total, and what rounding leaves over is handed out until the total is met exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenizer.errors import TokenizerError

PATCH = 28  # pixels; one token of Keye-VL
SAME_SCENE = 0.95
FAST_TENTHS = 3  # tokens of a fast frame, in tenths of a slow one's
PATCH_TOLERANCE = 0.05  # of the range of values; re-encoding noise stays below 0.03, a patch of another scene far above


@dataclass(frozen=True)
class FramePlan:
    """What to spend on each frame: slow_T (bool), tokens_T (int64, adding up to the budget), seconds_T from the start."""

    slow_T: np.ndarray
    tokens_T: np.ndarray
    seconds_T: np.ndarray


def plan_frames(frames: Sequence[np.ndarray], seconds: Sequence[float], token_budget: int) -> FramePlan:
    """Plan for frames (uint8 [H,W,3], all of one size, in order of time) that were shown at `seconds`.

    Raises TokenizerError when there is no frame or times and frames do not fit.
    """
    if not len(frames) or len(frames) != len(seconds):
        raise TokenizerError(f"{len(frames)} frames and {len(seconds)} times; expected one time for each, one or more.")
    slow_T = slow_frames(frames)
    return FramePlan(slow_T, spread_budget(slow_T, token_budget), np.asarray(seconds, dtype=np.float64))


def slow_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Which frames (uint8 [H,W,3]) are slow, bool [T]; each is compared to the last slow one, not to the one before."""
    slow_T = np.zeros(len(frames), dtype=bool)
    last_slow = frames[0]
    for number, frame in enumerate(frames):
        if number == 0 or patch_similarity(last_slow, frame) <= SAME_SCENE:
            slow_T[number], last_slow = True, frame
    return slow_T


def patch_similarity(one_HW3: np.ndarray, other_HW3: np.ndarray) -> float:
    """Share of patches that agree: mean absolute difference of their pixels at most PATCH_TOLERANCE of the range.

    The report does not say how patches are compared. Differences see a change of brightness or colour that the angle
    between patches does not. Patches at the right and lower edge may be smaller.
    """
    if one_HW3.shape != other_HW3.shape:
        raise TokenizerError(f"frames of shape {one_HW3.shape} and {other_HW3.shape} cannot be compared.")
    difference_HW = np.abs(one_HW3.astype(np.int16) - other_HW3).mean(axis=2) / 255
    rows, columns = (np.arange(0, size, PATCH) for size in difference_HW.shape)
    total = np.add.reduceat(np.add.reduceat(difference_HW, rows, axis=0), columns, axis=1)
    pixels = np.outer(np.diff(rows, append=len(difference_HW)), np.diff(columns, append=difference_HW.shape[1]))
    return float((total / pixels <= PATCH_TOLERANCE).mean())


def spread_budget(slow_T: np.ndarray, token_budget: int) -> np.ndarray:
    """Tokens per frame, int64 [T], adding up to `token_budget` exactly.

    Every slow frame gets the most whole tokens that fit, every fast one three tenths of that, rounded down. What is left
    is less than one token a frame: one each for the slow frames in order of time, then for the fast ones.
    """
    if token_budget < 0:
        raise TokenizerError(f"token_budget: expected 0 or more, got {token_budget}.")
    slow = int(slow_T.sum())
    fast = len(slow_T) - slow

    def cost(slow_tokens: int) -> int:
        return slow * slow_tokens + fast * (slow_tokens * FAST_TENTHS // 10)

    low, high = 0, token_budget + 1  # cost(low) fits, cost(high) does not: the first frame is slow
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= token_budget else (low, middle)
    tokens_T = np.where(slow_T, low, low * FAST_TENTHS // 10).astype(np.int64)
    slow_first = np.argsort(~slow_T, kind="stable")
    tokens_T[slow_first[: token_budget - cost(low)]] += 1
    return tokens_T
