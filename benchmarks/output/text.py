"""Figures as text, and Markdown tables: the formats of README and docs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ENDS = ("value", "low", "high")


def share(value: float, digits: int = 4) -> str:
    """A share without the zero before its point: `.0653`, and `1.0000` as it is."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def share_interval(figure: Mapping[str, float], digits: int = 4) -> str:
    """A share with its 95 % interval: `.0653 (.0621–.0684)`."""
    value, low, high = (share(figure[end], digits) for end in ENDS)
    return f"{value} ({low}–{high})"


def signed(value: float) -> str:
    """A difference of shares with its sign: `+.0012`, `−.0020`."""
    return re.sub(r"^([+-])0\.", r"\1.", f"{value:+.4f}").replace("-", "−")


def signed_interval(figure: Mapping[str, float]) -> str:
    """A difference with its 95 % interval: `+.0012 (−.0020 to +.0044)`."""
    value, low, high = (signed(figure[end]) for end in ENDS)
    return f"{value} ({low} to {high})"


def percent_interval(figure: Mapping[str, float]) -> str:
    """A relative difference with its 95 % interval: `+4.3 % (+4.1 to +4.5)`."""
    value, low, high = (f"{100 * figure[end]:+.1f}".replace("-", "−") for end in ENDS)
    return f"{value} % ({low} to {high})"


def repeats(figure: Mapping[str, float], spec: str) -> str:
    """The median of repeats, least and most: `3.31 (3.02–3.48)`. `spec`: the format of each number."""
    return f"{figure['value']:{spec}} ({figure['min']:{spec}}–{figure['max']:{spec}})"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def ratio_table(what: str, figures: Mapping[str, Any]) -> str:
    """A Markdown table of the figures that were repeated; `what` they are stands in its header."""
    repeated = {name: figure for name, figure in figures.items() if isinstance(figure, dict)}
    rows = [(f"`{name}`", repeats(figure, ",.3g")) for name, figure in repeated.items()]
    return markdown_table((what, "median (least to most of the repeats)"), rows)


def origin(run: Mapping[str, Any]) -> str:
    """Seeds, minutes, cores, commit and command of a results file in one line."""
    seeds = run.get("seed")
    parts = [] if seeds is None else [f"seed{'s' if isinstance(seeds, list) else ''} {str(seeds).strip('[]')}"]
    parts.append(f"{run['seconds'] / 60:.0f} min on {run['machine']['cores']} cores")
    parts.append(f"commit `{run['commit'][:10]}`{' with changes' if run['dirty'] else ''}")
    return "; ".join([*parts, f"`{run['command']}`."])
