"""The alignment benchmark's tables as Markdown, for terminal and docs."""

from typing import Any

from benchmarks.alignment_rows import BEHAVIOUR, DRIFT, GROUPS, LEGALITY, LOSSES, MAIN, SEARCH

PARTS = {
    MAIN: "objectives",
    GROUPS: "groups",
    SEARCH: "search",
    BEHAVIOUR: "behaviour",
    LOSSES: "losses",
    DRIFT: "drift",
    LEGALITY: "legality",
}

SEARCH_LABELS = {"beam": "", "selection": " + selection by the reward model"}
HEADER = (
    "P-Score of the judge",
    "its gain",
    "hit rate@10",
    "Recall@10",
    "difference",
    "NDCG@10",
    "coverage@10",
    "cold",
    "length",
    "generating",
)
GROUP_HEADER = (
    "gain of the judge's P-Score",
    "difference",
    "Recall@10, difference",
    "coverage@10",
    "KL",
    "alignment",
    "generating",
)


def markdown(results: dict[str, Any]) -> str:
    """All tables of a file."""
    return "\n\n".join(parts(results).values())


def parts(results: dict[str, Any]) -> dict[str, str]:
    """Every table by name; the file's origin is the last part."""
    from benchmarks.result_tables import origin

    rows = results["rows"]
    made: dict[str, str] = {}
    for group in dict.fromkeys(row["group"] for row in rows if "group" in row):
        inside = [row for row in rows if row.get("group") == group]
        show = {MAIN: main_table, LEGALITY: legality_table}.get(group, group_table)
        made[PARTS[group]] = show(group, inside)
        if group == MAIN and any("pass_at_k" in row for row in inside):
            made["pass-at-k"] = pass_table(inside)
    if bounded := [row for row in rows if row.get("bounds")]:
        made["gradients"] = bounds_table(bounded)
    if durations := [row for row in rows if "spearman" in row]:
        made["durations"] = durations_table(durations)
    return made | {"origin": origin(results["run"])}


def main_table(group: str, rows: list[dict[str, Any]]) -> str:
    """Generation and selection side by side; differences are to generation before alignment."""
    from benchmarks.result_tables import interval, share, signed

    judged = "judge" in rows[0]["beam"]["test"]
    lines = _header(
        (group, *HEADER) if judged else (group, "Recall@10", "difference", "NDCG@10", "difference", "by seed")
    )
    for search in SEARCH_LABELS:
        for row in rows:
            if search not in row:
                continue
            found, difference = row[search]["test"], row[search].get("difference", {})
            label = row["label"] + SEARCH_LABELS[search]
            recall = signed(difference["recall@10"]) if difference else ""
            if not judged:
                ndcg = signed(difference["ndcg@10"]) if difference else ""
                seeds = ", ".join(_plain(one["ndcg@10"]) for one in row[search].get("by_seed", {}).values())
                cells = [label, interval(found["recall@10"]), recall, interval(found["ndcg@10"]), ndcg, seeds]
            else:
                cells = [
                    label,
                    share(found["judge"]["value"]),
                    _percent(difference["judge_gain"]) if difference else "",
                    interval(found["hit"]),
                    share(found["recall@10"]["value"]),
                    recall,
                    share(found["ndcg@10"]["value"]),
                    f"{row[search]['coverage@10']:.0%}",
                    f"{found['cold']['value']:.1%}",
                    f"{found['seconds']['value']:.0f} s",
                    _generating(row) if search == "beam" else "",
                ]
            lines.append(_line(cells))
    seeds = ", ".join(str(seed) for seed in rows[0]["seeds"])
    return "\n".join([*lines, "", f"Seeds {seeds}; intervals over users and seeds, differences paired."])


def group_table(group: str, rows: list[dict[str, Any]]) -> str:
    """Ablations: gains to the generator before alignment, and differences to the row they change."""
    from benchmarks.result_tables import signed

    lines = _header((group, *GROUP_HEADER))
    for row in rows:
        found = row["beam"]
        lines.append(
            _line(
                [
                    row["label"],
                    _percent(found["difference"]["judge_gain"]),
                    _percent(found["against"]["judge_gain"]) if "against" in found else "",
                    signed(found["difference"]["recall@10"]),
                    f"{found['coverage@10']:.0%}",
                    _last(row["curves"].get("kl_to_start")),
                    f"{row['seconds']['alignment_processor']:.0f} s",
                    _generating(row),
                ]
            )
        )
    return "\n".join(lines)


def legality_table(group: str, rows: list[dict[str, Any]]) -> str:
    """Shares of free samples that are items, of test users; and the curves of training."""
    from benchmarks.result_tables import interval, signed

    header = ("legal, test users", "difference", "legal in training: first, least, most, last", "entropy: first, last")
    lines = _header((group, *header))
    for row in rows:
        curves = row.get("curves", {})
        legal, entropy = curves.get("legality"), curves.get("entropy")
        told = ", ".join(f"{x:.1%}" for x in (legal[0], min(legal), max(legal), legal[-1])) if legal else ""
        nats = f"{entropy[0]:.1f}, {entropy[-1]:.1f} nats" if entropy else ""
        difference = signed(row["difference"]) if "difference" in row else ""
        lines.append(_line([row["label"], interval(row["legality"]), difference, told, nats]))
    return "\n".join(lines)


def pass_table(rows: list[dict[str, Any]]) -> str:
    """Pass@K: of the K most probable items the judge's best P-Score, and how many users took one."""
    from benchmarks.result_tables import share

    ks = list(rows[0]["pass_at_k"]["judge"])
    lines = _header(("Pass@K", "", *ks))
    for name, label in (("judge", "best P-Score"), ("hit", "users with a hit")):
        for row in rows:
            found = row.get("pass_at_k", {}).get(name)
            if found is not None:
                lines.append(_line([row["label"], label, *(share(found[k]["value"]) for k in ks)]))
    return "\n".join(lines)


def bounds_table(rows: list[dict[str, Any]]) -> str:
    """What negative advantages multiply gradients by, ratios, and norms of the objective's gradient, whole and of the part that
    makes generations less likely, over all steps."""
    lines = _header(
        (
            "gradients",
            "mean factor of negative advantages",
            "largest",
            "largest ratio",
            "mean norm",
            "largest norm",
            "downward alone, mean",
            "largest",
        )
    )
    for row in rows:
        bounds = row["bounds"]
        if "negative_coefficient" not in bounds:
            continue
        factor, ratio, norm = (
            bounds[name] for name in ("negative_coefficient", "ratio_max", "objective_gradient_norm")
        )
        figures = [factor["mean"], factor["largest"], ratio["largest"], norm["mean"], norm["largest"]]
        downward = bounds.get("negative_gradient_norm")  # rows of earlier versions have none
        figures += [downward["mean"], downward["largest"]] if downward else []
        told = [f"{figure:,.3g}" for figure in figures]
        lines.append(_line([row["label"], *told, *[""] * (0 if downward else 2)]))
    return "\n".join(lines)


def durations_table(rows: list[dict[str, Any]]) -> str:
    """How rewards follow the length of videos."""
    from benchmarks.result_tables import signed

    lines = _header(("reward", "exposures", "Spearman with the video's length", "share with +1"))
    for row in rows:
        rewarded = f"{row['rewarded']:.1%}" if "rewarded" in row else ""
        exposures = f"{row['exposures']}, {row['count']:,}"
        lines.append(_line([row["reward"], exposures, signed(row["spearman"]), rewarded]))
    return "\n".join(lines)


def _header(names: tuple[str, ...]) -> list[str]:
    return [_line(list(names)), "|" + "---|" * len(names)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _percent(figure: dict[str, float]) -> str:
    """`+4.3 % (+4.1 to +4.5)`."""
    value, low, high = (f"{100 * figure[key]:+.1f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} % ({low} to {high})"


def _plain(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")


def _generating(row: dict[str, Any]) -> str:
    """The share of alignment's time that went into generating groups, a mean over the steps on file."""
    share = row.get("rollout_share")
    return "" if share is None else f"{share:.0%}"


def _last(curve: list[float | None] | None) -> str:
    known = [value for value in curve or [] if value is not None]
    return f"{known[-1]:.2f}" if known else ""
