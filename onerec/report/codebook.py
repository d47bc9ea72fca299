"""Semantic IDs in figures and words: how evenly each level is used, and what the quality figures say to a reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from onerec.report import charts
from onerec.report.values import count, percent


def level_panels(
    level_sizes: Sequence[int], loads: Sequence[Sequence[int]], quality: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per level a chart of its items per code, and figures for below it.

    Args:
        level_sizes: codes of each level.
        loads: items per code of each level; codes that no item has count as zero.
        quality: of the semantic IDs, as `SemanticIds.quality` holds it.
    """
    panels = []
    of_levels, of_quantizer = quality.get("id_levels", []), quality.get("levels", [])
    for level, (size, load) in enumerate(zip(level_sizes, loads, strict=True)):
        figures = of_levels[level] if level < len(of_levels) else {}
        lost = of_quantizer[level].get("variance_lost") if level < len(of_quantizer) else None
        used = sum(items > 0 for items in load)
        words = (
            f"Level {level + 1}: items per code in falling order; the fullest carries {count(max(load))}, "
            f"{count(used)} of {count(size)} codes carry any."
        )
        rows = [
            ("Codes in use", percent(used / size)),
            ("Evenness (entropy)", percent(figures["entropy_share"]) if "entropy_share" in figures else "–"),
            ("Gini of the load", f"{figures['gini']:.2f}" if "gini" in figures else "–"),
            ("Fullest code", f"{count(max(load))} {'item' if max(load) == 1 else 'items'}"),
            ("Even share", f"{sum(load) / size:.1f} items"),
            *([("Variance still lost", percent(lost))] if lost is not None else []),
        ]
        panels.append({"number": level + 1, "size": size, "chart": charts.load_chart(load, words), "rows": rows})
    return panels


def quality_in_words(quality: Mapping[str, Any], kept: Sequence[int] = ()) -> list[dict[str, str]]:
    """The quality figures that a reader should know, each with a sentence on what it says.

    kept: items whose nearest neighbour by vector shares 0, 1, 2 … first codes.
    """
    entries = [
        *_identity_words(quality),
        *_prefix_words(quality),
        *_neighbour_words(quality.get("neighbours", {}), kept),
    ]
    return [{"name": name, "value": value, "words": words} for name, value, words in entries]


Entries = list[tuple[str, str, str]]  # name, value, what it says


def _identity_words(quality: Mapping[str, Any]) -> Entries:
    """How well codes stand for the items' vectors, and what it took to give every item an ID of its own."""
    before, rebuilt = quality["collisions_before"], quality["reconstruction"]
    entries = [
        (
            "Variance lost",
            percent(rebuilt["share_of_variance"]),
            "This share of the differences between item vectors is gone when only the codes are known. 0 % is a perfect "
            "reconstruction. 100 % is no better than one mean vector for all items.",
        ),
        (
            "Items that shared their codes",
            percent(before["share_of_items"]),
            "The quantizer alone gave these items codes that another item has too. The largest group has "
            f"{count(before['largest_group'])} items. A later step gave each item an ID of its own.",
        ),
        (
            "Items given another ID",
            count(quality["moved"]),
            "These items left the codes that the quantizer chose, because a closer item holds them. Their last codes say "
            "less about their content.",
        ),
    ]
    if "extra_error" in quality:
        entries.append(
            (
                "Cost of uniqueness",
                f"{100 * quality['extra_error']:+.1f} %".replace("-", "−"),
                "The mean squared distance between items and their codes changed by this much when every item got an ID of "
                "its own.",
            )
        )
    return entries


def _prefix_words(quality: Mapping[str, Any]) -> Entries:
    """What prefixes gather, and how much of an ID its levels say twice."""
    entries = []
    for prefix in quality.get("prefixes", [])[:-1]:
        first = "first code" if prefix["depth"] == 1 else f"first {prefix['depth']} codes"
        entries.append(
            (
                f"Prefixes by the {first}",
                count(prefix["distinct"]),
                f"{prefix['items_per_prefix']:.1f} items share one on average, at most {count(prefix['largest'])}. "
                f"{percent(prefix['items_alone'])} of the items are alone under theirs, so their other codes add nothing.",
            )
        )
    if overall := quality.get("overall"):
        entries.append(
            (
                "Evenness of whole IDs",
                percent(overall["entropy_share"]),
                "Entropy of the quantizer's code sequences before they were made unique, as a share of the maximum. At "
                "100 % the quantizer told all items apart by itself.",
            )
        )
        entries.append(
            (
                "Shared between levels",
                f"{overall['levels_in_common']:.2f} nats",
                "The entropies of the levels add up to this much more than the entropy of the whole sequence. At 0 no level "
                "tells anything about another.",
            )
        )
    return entries


def _neighbour_words(neighbours: Mapping[str, Any], kept: Sequence[int]) -> Entries:
    """Neighbour preservation: by content where the page computed it, by behaviour where the run measured it."""
    entries = []
    if total := sum(kept):
        entries.append(
            (
                "Nearest items that stay together",
                percent(1 - kept[0] / total),
                "For this share of the items the most similar one by vector begins with the same code. The others are close "
                "in content and apart in the tree.",
            )
        )
    if neighbours.get("pairs"):
        agreement, chance = neighbours["prefix_agreement"][0], neighbours["prefix_agreement_chance"][0]
        entries.append(
            (
                "Held-out pairs with one first code",
                percent(agreement),
                f"A pair is two items that one person took one after the other, unseen in training. Of "
                f"{count(neighbours['pairs'])} pairs this share has the same first code; by chance it would be "
                f"{percent(chance)}.",
            )
        )
        entries.append(
            (
                f"Held-out pairs among the {neighbours['k']} nearest",
                percent(neighbours["hit_rate_decoded"]),
                "In this share of the pairs the second item is that near to the first when only codes are known. With the "
                f"vectors themselves it is {percent(neighbours['hit_rate_vectors'])}.",
            )
        )
    return entries
