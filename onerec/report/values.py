"""Reading figures from JSON that may lack some of them, and writing them the way people do."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from onerec.report.charts import Interval

METRICS = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR"}
NAMES = {**METRICS, "p_score": "P-Score"}


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
    return NAMES.get(name, name.replace("_", " ")) + (f"@{cutoff}" if cutoff else "")


def figure(value: float) -> str:
    return f"{value:.4f}"


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def figure_with_interval(interval: Interval) -> str:
    low, high = interval.ends()
    known = interval.low is not None and interval.high is not None
    return (
        f"{figure(interval.value)} (95 % interval {figure(low)} to {figure(high)})" if known else figure(interval.value)
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def count(value: float) -> str:
    return f"{value:,.0f}"


def plain(value: float | str | bool) -> str:
    """A figure of unknown kind: whole numbers with grouped thousands, others with four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds in the largest two units that matter: `< 0.1 s`, `0.4 s`, `12 s`, `7 min 12 s`, `2 h 5 min`."""
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def date_in_words(started: object) -> str:
    """An ISO date or Unix seconds as `3 May 2026, 14:05`; other text as it stands."""
    try:
        if isinstance(started, int | float):
            moment = datetime.fromtimestamp(started).astimezone()
        else:
            moment = datetime.fromisoformat(str(started))
    except (ValueError, OverflowError, OSError):
        return "" if started is None else str(started)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()


def in_words(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def as_pairs(value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [(str(key).replace("_", " "), str(entry)) for key, entry in value.items() if not is_missing(entry)]
    return [("", str(value))] if value else []


def title_of(entry: object) -> str:
    fields = as_mapping(entry)
    return str(fields.get("title") or fields.get("item") or (entry if not fields else ""))


def as_interval(raw: object) -> Interval | None:
    fields = raw if isinstance(raw, dict) else {"value": raw}
    value = as_number(fields.get("value"))
    return None if value is None else Interval(value, as_number(fields.get("low")), as_number(fields.get("high")))


def as_number(raw: object) -> float | None:
    return float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw) else None


def flatten(mapping: dict[str, Any]) -> list[tuple[str, float | str]]:
    """Single figures of a mapping and of the mappings in it as (readable name, value); lists are left out."""
    found: list[tuple[str, float | str]] = []
    for key, value in mapping.items():
        name = str(key).replace("_", " ")
        if isinstance(value, dict):
            found += [(f"{name}: {inner}", figure) for inner, figure in flatten(value)]
        elif isinstance(value, str | int | float):
            found.append((name, value))
    return found


def is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))


def as_mapping(raw: object) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}


def as_sequence(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def entry_at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
