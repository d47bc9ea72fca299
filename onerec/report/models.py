"""The models of a run: in which order they stand, which are ours, and by how much two of them differ.

No model is known by name here; `results.json` has their labels and says which are ours. The first of ours is the generator.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onerec.report.charts import Interval
from onerec.report.values import (
    as_interval,
    as_mapping,
    as_number,
    metric_name,
    readable,
    signed,
    verdict,
    with_interval,
)
from onerec.run.models import P_SCORE

HEADLINE = ("recall@10", "ndcg@10")  # the figures of charts and verdicts
COMPARED = (*HEADLINE, "recall@50", P_SCORE)  # those of the tables


@dataclass(frozen=True)
class Model:
    """One model of a run: its part of `results.json` (`data`) by its key there (`name`).

    `own` says whether it is one of ours; the others are the baselines. `style` is its series style in the charts; the
    generator has the accent.
    """

    name: str
    label: str
    own: bool
    style: int
    data: Mapping[str, Any]

    def interval(self, metric: str, part: str = "test") -> Interval | None:
        return as_interval(as_mapping(self.data.get(part)).get(metric))

    def number(self, key: str) -> float | None:
        return as_number(self.data.get(key))


@dataclass(frozen=True)
class Comparison:
    """All models of a run, best NDCG@10 first, and their differences on the test users, by `<left> - <right>` in `paired`.

    `generator` is the trained generator alone.
    """

    models: Sequence[Model]
    generator: Model | None
    paired: Mapping[str, Any]

    @cached_property
    def own(self) -> list[Model]:
        """The generator and what was made from it."""
        return [model for model in self.models if model.own]

    @cached_property
    def best_baseline(self) -> Model | None:
        return next((model for model in self.models if not model.own), None)

    @cached_property
    def pairs(self) -> list[tuple[Model, Model]]:
        """The pairs of models that were compared, in the order of the file."""
        by_name = {model.name: model for model in self.models}
        names = (pair.partition(" - ")[::2] for pair in self.paired)
        return [(by_name[left], by_name[right]) for left, right in names if left in by_name and right in by_name]

    def difference(self, left: Model, right: Model, metric: str) -> Interval | None:
        """What `left` has more than `right`, whichever way round the file holds it; None where it holds neither."""
        found = as_interval(as_mapping(self.paired.get(f"{left.name} - {right.name}")).get(metric))
        turned = as_interval(as_mapping(self.paired.get(f"{right.name} - {left.name}")).get(metric))
        if found or not turned:
            return found
        low, high = (None if end is None else -end for end in (turned.high, turned.low))
        return Interval(-turned.value, low, high)

    def standing(self, left: Model, right: Model, called: str = "") -> str:
        """How `left` stands to `right` in the headline figures, as what follows "is" in a sentence; empty when unknown.

        `level with B in Recall@10 (+.0191, +.0000 to +.0382) and above it in NDCG@10 (+.0109, +.0008 to +.0208)`; `called`
        replaces the label of `right`.
        """
        said: dict[str, list[str]] = {}
        for metric in HEADLINE:
            difference = self.difference(left, right, metric)
            if difference and (word := verdict(difference)):
                said.setdefault(word, []).append(f"{metric_name(metric)} {in_brackets(difference)}")
        return " and ".join(
            f"{word} {'it' if place else called or right.label} in {' and '.join(figures)}"
            for place, (word, figures) in enumerate(said.items())
        )


def in_brackets(difference: Interval) -> str:
    """`(+.0191, +.0000 to +.0382)`"""
    value, _, ends = with_interval(difference, signed).partition(" (")
    return f"({value}, {ends}" if ends else f"({value})"


def read_models(results: Mapping[str, Any]) -> Comparison:
    """The models of `results.json`, best NDCG@10 on test data first."""
    entries = as_mapping(results.get("models"))
    models = [
        Model(
            name,
            str(entries[name].get("label") or readable(name)),
            bool(entries[name].get("own")),
            style,
            entries[name],
        )
        for style, name in enumerate(sorted(entries, key=lambda name: not entries[name].get("own")))
    ]

    def order(model: Model) -> float:
        best = model.interval("ndcg@10")
        return -best.value if best else math.inf

    generator = next((model for model in models if model.own), None)
    return Comparison(sorted(models, key=order), generator, as_mapping(results.get("paired")))
