"""Slow and fast frames of a video and their token budget (Keye-VL-1.5 technical report, arXiv 2509.01563).

The first frame is slow. A later frame is fast when more than 95 % of its patches agree with the last slow frame, and slow
otherwise. A fast frame gets 30 % of the tokens of a slow one. Binary search finds the most tokens per slow frame within the
budget, and the tokens that rounding leaves over are then handed out, so that the budget is met exactly.
"""

from collections.abc import Sequence

import numpy as np

from tokenizer.errors import TokenizerError

PATCH = 28  # pixels; a patch is one token of Keye-VL
SAME_SCENE = 0.95
FAST_TENTHS = 3  # tokens of a fast frame, in tenths of a slow one's
PATCH_TOLERANCE = 0.05  # of the range of values; re-encoding noise stays below 0.03, another scene is far above


def slow_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Find the slow ones of one or more frames (uint8 [H,W,3], all of one size, in order of time), bool [T].

    Each frame is compared with the last slow frame, not with the frame before it.
    """
    slow_T = np.zeros(len(frames), dtype=bool)
    last_slow = frames[0]
    for number, frame in enumerate(frames):
        if number == 0 or patch_similarity(last_slow, frame) <= SAME_SCENE:
            slow_T[number], last_slow = True, frame
    return slow_T


def patch_similarity(one_HW3: np.ndarray, other_HW3: np.ndarray) -> float:
    """Share of patches that agree: their pixels differ by at most PATCH_TOLERANCE of the range, on average.

    The report does not say how it compares patches. Differences show changes of brightness and colour, which the angle
    between patches does not. Patches at the right and lower edges may be smaller.
    """
    if one_HW3.shape != other_HW3.shape:
        raise TokenizerError(f"frames of shape {one_HW3.shape} and {other_HW3.shape} cannot be compared.")
    difference_HW = np.abs(one_HW3.astype(np.int16) - other_HW3).mean(axis=2) / 255
    rows, columns = (np.arange(0, size, PATCH) for size in difference_HW.shape)
    total = np.add.reduceat(np.add.reduceat(difference_HW, rows, axis=0), columns, axis=1)
    pixels = np.outer(np.diff(rows, append=len(difference_HW)), np.diff(columns, append=difference_HW.shape[1]))
    return float((total / pixels <= PATCH_TOLERANCE).mean())


def spread_budget(slow_T: np.ndarray, token_budget: int) -> np.ndarray:
    """Divide `token_budget` among the frames exactly, int64 [T].

    Every slow frame gets as many whole tokens as fit, and every fast frame three tenths of that, rounded down. Fewer tokens
    than frames are then left: one each for the slow frames in order of time, then for the fast frames.
    """
    slow = int(slow_T.sum())
    fast = len(slow_T) - slow

    def cost(slow_tokens: int) -> int:
        return slow * slow_tokens + fast * (slow_tokens * FAST_TENTHS // 10)

    low, high = 0, token_budget + 1  # cost(low) is within the budget; cost(high) is not, because there is a slow frame
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= token_budget else (low, middle)
    tokens_T = np.where(slow_T, low, low * FAST_TENTHS // 10).astype(np.int64)
    slow_first = np.argsort(~slow_T, kind="stable")
    tokens_T[slow_first[: token_budget - cost(low)]] += 1
    return tokens_T
