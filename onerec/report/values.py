"""How the report speaks: labels of figures, the way numbers are written, and reading figures that a file may lack."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from onerec.report.charts import Interval

METRICS = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "id_recall": "Recall by ID"}
LABELS = {**METRICS, "p_score": "P-Score", "coverage": "Coverage"}
BREAKDOWNS = {
    "by_popularity": "By popularity of the true item, events in training",
    "by_history_length": "By length of the history, events",
    "by_cold": "Items that training never showed",
}
FEATURES = {
    "log_probability": "log-probability of the generator, per nat",
    "item_score": "score of the item scorer",
    "co_occurrence": "logarithm of co-occurrence",
    "co_occurrence_root": "square root of co-occurrence",
    "directly_after": "logarithm of how often it came right after the newest event",
    "never_together": "never together with the history in training",
    "content_mean": "content like the history's mean, cosine",
    "content_most": "content like one event of the history, cosine",
    "behaviour_mean": "behaviour like the history's mean, cosine",
    "behaviour_most": "behaviour like one event of the history, cosine",
    "new": "never taken in training",
    "new_content_mean": "never taken, and content like the history's mean, cosine",
    "new_content_most": "never taken, and content like one event of the history, cosine",
}


def verdict(difference: Interval) -> str:
    """Where a paired 95 % interval lies: "above" or "below" when zero is outside, "level with" when it is not.

    Without an interval nothing is claimed: the word is empty.
    """
    if difference.low is None or difference.high is None:
        return ""
    return "above" if difference.low > 0 else "below" if difference.high < 0 else "level with"


def metric_name(metric: str) -> str:
    """`recall@10` as people write it: Recall@10."""
    name, _, cutoff = metric.partition("@")
    return LABELS.get(name, readable(name)) + (f"@{cutoff}" if cutoff else "")


def readable(name: str) -> str:
    """A name from a file in words: underscores become spaces."""
    return name.replace("_", " ")


def figure(value: float) -> str:
    """`.0653`: a figure below one is written without its zero."""
    return f"{value:.4f}".removeprefix("0")


def signed(value: float) -> str:
    """`+.0109` or `−.0109`; what rounds to zero is `+.0000`."""
    return ("−" if round(value, 4) < 0 else "+") + figure(abs(value))


def with_interval(interval: Interval, write: Callable[[float], str] = figure) -> str:
    """`.0653 (.0621–.0684)`, or `+.0109 (+.0008 to +.0208)` with `write=signed`."""
    if interval.low is None or interval.high is None:
        return write(interval.value)
    between = " to " if write is signed else "–"
    return f"{write(interval.value)} ({write(interval.low)}{between}{write(interval.high)})"


def percent(share: float) -> str:
    """`38.8 %`, with a space that no line is broken at."""
    return f"{100 * share:.1f}\u00a0%"


def count(value: float) -> str:
    return f"{value:,.0f}"


def plain(value: float) -> str:
    """A figure of unknown kind, with four significant digits."""
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds in the largest two units that matter: `< 0.1 s`, `0.4 s`, `12 s`, `7 min 12 s`, `2 h`."""
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    units = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in units if number)


def size(in_bytes: float) -> str:
    """Bytes in a unit that leaves few digits: `512 B`, `1.6 MB`, `24 GB`."""
    power = min(int(math.log10(max(in_bytes, 1)) / 3), 3)
    number = in_bytes / 1000**power
    return f"{number:.{1 if power and number < 10 else 0}f} {('B', 'kB', 'MB', 'GB')[power]}"


def date_in_words(started: object) -> str:
    """An ISO date as `3 May 2026, 14:05 UTC`; other text as it stands."""
    try:
        moment = datetime.fromisoformat(str(started))
    except ValueError:
        return "" if started is None else str(started)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()


def in_words(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def as_interval(raw: object) -> Interval | None:
    fields = raw if isinstance(raw, dict) else {"value": raw}
    value = as_number(fields.get("value"))
    return None if value is None else Interval(value, as_number(fields.get("low")), as_number(fields.get("high")))


def as_number(raw: object) -> float | None:
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw) else None


def as_mapping(raw: object) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}


def as_sequence(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []
