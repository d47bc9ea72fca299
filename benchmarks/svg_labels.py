"""Where the names of marks go on a crowded chart: beside their marks, over nothing that matters."""

from collections.abc import Iterable, Sequence

from benchmarks.svg_lines import Box

HEIGHT = 14.0
NEAR = 9.0
ROWS = tuple(sign * 7.0 * step for step in range(25) for sign in (-1, 1))
# What a label may cost: covering another label or a mark is out of the question while there is room anywhere.
COVERED, CROSSED, OUTSIDE = 1e4, 18.0, 1e6


def place_labels(
    points: Sequence[tuple[float, float]], widths: Sequence[float], crossed: Iterable[Box], area: Box
) -> list[Box]:
    """A box for each label, near its point, in the order given.

    Boxes stay within `area` and apart from marks and from each other as far as there is room; they cross lines (`crossed`) where
    the way around is long.
    """
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    lines, placed = list(crossed), list[Box]()
    for point, width in zip(points, widths, strict=True):
        candidates = list(_around(*point, width))

        def cost(candidate: tuple[Box, float], taken: Sequence[Box] = tuple(placed)) -> float:
            box, distance = candidate
            covered = sum(box.overlaps(other) for other in (*marks, *taken))
            return (
                distance + COVERED * covered + CROSSED * sum(map(box.overlaps, lines)) + OUTSIDE * (not area.holds(box))
            )

        placed.append(min(candidates, key=cost)[0])
    return placed


def _around(x: float, y: float, width: float) -> Iterable[tuple[Box, float]]:
    """Places right and left of a point and above and below it, each with how far it is off."""
    for row in ROWS:
        top = y + row - HEIGHT / 2
        yield Box(x + NEAR, top, x + NEAR + width, top + HEIGHT), abs(row)
        yield Box(x - NEAR - width, top, x - NEAR, top + HEIGHT), abs(row) + 2
