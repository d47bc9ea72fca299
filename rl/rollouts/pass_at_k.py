"""Pass@K: the best reward among K generations, for growing K.

The Technical Report (arXiv 2506.13695, Table 4) measures each objective by the best of K = 8 ... 1024 generations. With hits as
rewards, pass@K is the share of users for whom one of K generations is right. Pad shorter lists, such as beams that ran out of
items, with the smallest reward: 0 for P-Scores and hits.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onerec.evaluate.bootstrap import Interval, intervals

Order = Literal["rank", "chance"]


def doubling(largest: int) -> list[int]:
    """1, 2, 4, ... up to `largest`."""
    return [1 << power for power in range(largest.bit_length())]


def best_of_first(rewards_CG: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    """The best reward among the first K generations, `[C, len(ks)]`; in a beam these are the K most probable."""
    best_CG = np.maximum.accumulate(_checked(rewards_CG, ks), axis=1)
    return best_CG[:, np.asarray(ks) - 1]


def best_of_random(rewards_CG: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    """The expected best reward of K generations drawn from G without replacement, exactly, `[C, len(ks)]`.

    The i-th best (from 0) is the best of the drawn ones in C(G - 1 - i, K - 1) of C(G, K) cases. For hits this is HumanEval's
    unbiased estimate of pass@k (arXiv 2107.03374), 1 - C(G - hits, K) / C(G, K). For G independent samples of a policy it is an
    unbiased estimate of the best of K samples.
    """
    best_first_CG = -np.sort(-_checked(rewards_CG, ks), axis=1)
    size = best_first_CG.shape[1]
    return best_first_CG @ np.stack([_chances_of_ranks(size, k) for k in ks], axis=1)


def _chances_of_ranks(size: int, k: int) -> NDArray[np.float64]:
    """For each i, the probability that the i-th best of `size` is the best of k drawn."""
    # A product of ratios of neighbouring terms, because binomials of 512 overflow a float.
    left = np.arange(size - 1, 0, -1, dtype=np.float64)
    ratios = np.maximum(left - k + 1, 0) / left
    return k / size * np.cumprod(np.concatenate([[1.0], ratios]))


def pass_at_k(
    rewards: Mapping[str, NDArray],
    user_C: NDArray[np.integer],
    *,
    order: Order = "rank",
    ks: Sequence[int] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[int, Interval]]:
    """The pass@K curve of each objective: means over cases with 95 % intervals over users.

    Args:
        rewards: by the objective's name, finite, `[C, G]`: generation g of case c. Hits are 0 and 1.
        user_C: the user of each case.
        order: "rank", the first K (`best_of_first`), or "chance", K at random (`best_of_random`).
        ks: values of K, at most G. None: 1, 2, 4, ... up to G.
        samples, seed: of the bootstrap. Curves with the same seed share their resamples, so their differences are paired.

    Returns:
        `{objective: {K: {"value", "low", "high"}}}`. Values never fall as K grows.

    Raises:
        ValueError: rewards are not finite or have another shape, or a K lies outside 1 ... G.
    """
    curves: dict[str, dict[int, Interval]] = {}
    for name, rewards_CG in rewards.items():
        chosen = doubling(np.shape(rewards_CG)[1]) if ks is None else ks
        best = best_of_first if order == "rank" else best_of_random
        values_CK = best(rewards_CG, chosen)
        found = intervals({str(k): values_CK[:, place] for place, k in enumerate(chosen)}, user_C, samples, seed)
        curves[name] = {k: found[str(k)] for k in chosen}
    return curves


def _checked(rewards_CG: NDArray, ks: Sequence[int]) -> NDArray[np.float64]:
    rewards_CG = np.asarray(rewards_CG, dtype=np.float64)
    if rewards_CG.ndim != 2 or not np.isfinite(rewards_CG).all():
        raise ValueError(f"expected finite rewards of cases x generations, got shape {rewards_CG.shape}")
    if not ks or min(ks) < 1 or max(ks) > rewards_CG.shape[1]:
        raise ValueError(f"K must be 1 to {rewards_CG.shape[1]}, the number of generations; got {list(ks)}")
    return rewards_CG
