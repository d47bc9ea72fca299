"""How strongly a reward follows the length of a video: raw play time and the duration-aware reward on logged exposures.

OneRec-V2 (arXiv 2508.20900, section 3.4) ranks a play time among the user's own for videos of about the same length, because
raw play time rewards long videos. Spearman's correlation with the duration shows how far each reward does so.
"""

from typing import Any

import numpy as np
import polars as pl

from benchmarks.study.samples import BOOTSTRAP_SEED, SAMPLES

CLICK = "is_click"
BATCH = 4096  # exposures in time order whose top quarter is rewarded
DISLIKE = "is_hate"


def duration_rows(folder: Any) -> list[dict[str, Any]]:
    """Rows of raw play time, its longest quarter, and the reward with choices that the report leaves open; intervals over users.

    There are rows of all exposures, and rows of those that were clicked: most others end within seconds however long the video
    is, which hides how play times of watched videos follow their length. Rewards are computed from all exposures for both.

    Args:
        folder: of a dataset that records play time and duration for some of its events at least.
    """
    from onerec.data.contract import read_dataset
    from rl.config.alignment import DurationAwareConfig
    from rl.rewards.duration_aware import duration_aware_advantages, play_events

    dataset = read_dataset(folder)
    columns = dataset.spec.events
    assert columns.play_time and columns.duration and columns.time
    known = dataset.events.with_row_index("row").filter(
        pl.col(columns.play_time).is_not_null() & (pl.col(columns.duration) > 0)
    )
    rows_E = known.sort(columns.time, maintain_order=True)["row"].to_numpy().astype(np.int64)
    plays_E, durations_E, disliked_E = play_events(dataset, rows_E, DISLIKE)
    users_E = dataset.events[columns.user][rows_E].rank("dense").to_numpy().astype(np.int64)
    batches_E = np.arange(len(rows_E)) // BATCH
    rewards: dict[str, np.ndarray] = {
        "play time": plays_E,
        "1 for the longest quarter of a batch's play times": top_of_batches(plays_E, batches_E),
    }
    for base in (2.0, 4.0):
        for history in ("before", "all"):
            config = DurationAwareConfig(base=base, history=history)
            events = (users_E, plays_E, durations_E, disliked_E, batches_E, config)
            against = "the user's earlier plays" if history == "before" else "all of the user's plays"
            rewards[f"duration-aware, durations x {base:g}, {against}"] = duration_aware_advantages(*events)
    chosen = {"all": np.ones(len(rows_E), dtype=bool), "clicked": dataset.events[CLICK][rows_E].to_numpy() == 1}
    return [
        {
            "reward": name,
            "exposures": among,
            "count": int(chosen_E.sum()),
            "users": len(np.unique(users_E[chosen_E])),
            "spearman": spearman(values_E[chosen_E], durations_E[chosen_E], users_E[chosen_E]),
            **({} if values_E is plays_E else {"rewarded": float(np.mean(values_E[chosen_E] == 1))}),
        }
        for among, chosen_E in chosen.items()
        for name, values_E in rewards.items()
    ]


def top_of_batches(values_E: np.ndarray, batches_E: np.ndarray, share: float = 0.25) -> np.ndarray:
    """1 for values above the quantile `1 - share` of their batch, else 0."""
    frame = pl.DataFrame({"value": values_E, "batch": batches_E})
    border = pl.col("value").quantile(1 - share, "linear").over("batch")
    above: np.ndarray = frame.select((pl.col("value") > border).cast(pl.Int8)).to_series().to_numpy()
    return above


def spearman(first_E: np.ndarray, second_E: np.ndarray, users_E: np.ndarray) -> dict[str, float]:
    """Spearman's correlation with a 95 % bootstrap interval over users; ranks are those of all events and not drawn anew."""
    ranks = [pl.Series(values).rank("average").to_numpy() for values in (first_E, second_E)]
    first, second = ((rank - rank.mean()) / rank.std() for rank in ranks)
    terms = (np.ones(len(first)), first, second, first * first, second * second, first * second)
    _, row_E = np.unique(users_E, return_inverse=True)
    sums_UF = np.stack([np.bincount(row_E, weights=term) for term in terms], axis=1)
    draw, users = np.random.default_rng(BOOTSTRAP_SEED), len(sums_UF)
    drawn = [_correlation(draw.multinomial(users, np.full(users, 1 / users)) @ sums_UF) for _ in range(SAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": _correlation(sums_UF.sum(axis=0)), "low": float(low), "high": float(high)}


def _correlation(sums: np.ndarray) -> float:
    count, first, second, squares, other_squares, products = sums
    spread = np.sqrt((squares - first**2 / count) * (other_squares - second**2 / count))
    return float((products - first * second / count) / spread)
