"""Exact values at given ranks of a column that is too long to sort in memory, in two passes."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

SAMPLES = 1024  # sorted values kept of each piece; with more of them the second pass counts fewer values


def values_at_ranks(read: Callable[[], Iterable[pl.Series]], ranks: list[int]) -> list[Any]:
    """The values at `ranks` (from 0) of all pieces together, as if they were one sorted column without nulls.

    The first pass keeps every n-th value of each sorted piece. For any value, these samples bound how many values are smaller,
    with an error of at most n per piece. The bounds bracket each rank, and a second pass counts the values inside the bracket.

    Args:
        read: yields the pieces; must yield the same ones each time.
        ranks: each below the number of values.
    """
    samples: list[tuple[list[Any], int, int]] = []  # every n-th value of a sorted piece, n, and the length of the piece
    kind: pl.DataType = pl.Null()
    for piece in read():
        kind = piece.dtype
        ordered = piece.drop_nulls().to_physical().sort()
        if len(ordered):
            step = -(-len(ordered) // SAMPLES)
            samples.append((ordered.gather_every(step).to_list(), step, len(ordered)))
    physical = [_at_rank(read, samples, rank) for rank in ranks]
    return [pl.Series([value]).cast(kind)[0] for value in physical]


def _at_rank(read: Callable[[], Iterable[pl.Series]], samples: list[tuple[list[Any], int, int]], rank: int) -> Any:
    candidates = sorted({value for sample, _, _ in samples for value in sample})

    def most_below(value: Any) -> int:
        return sum(min(bisect_left(sample, value) * step, length) for sample, step, length in samples)

    def least_up_to(value: Any) -> int:
        found = ((bisect_right(sample, value), step) for sample, step, _ in samples)
        return sum((count - 1) * step + 1 for count, step in found if count)

    # At most `rank` values are smaller than this one, so the value sought is no smaller.
    low = candidates[bisect_right(candidates, rank, key=most_below) - 1]
    above = bisect_left(candidates, rank + 1, key=least_up_to)
    inside = pl.col("value") >= low
    if above < len(candidates):
        inside &= pl.col("value") <= candidates[above]
    counts = pl.DataFrame()
    for piece in read():
        values = piece.drop_nulls().to_physical().alias("value").to_frame()
        rank -= values.filter(pl.col("value") < low).height
        found = values.filter(inside).group_by("value").len()
        counts = pl.concat([counts, found]).group_by("value").agg(pl.col("len").sum()) if counts.height else found
    ordered = counts.sort("value").with_columns(pl.col("len").cum_sum())
    return ordered.filter(pl.col("len") > rank)["value"][0]
