"""The alignment benchmark's tables as Markdown, for terminal and docs."""

from typing import Any

from benchmarks.alignment.rows import BEHAVIOUR, DRIFT, GROUPS, LEGALITY, LOSSES, MAIN, SEARCH
from benchmarks.output.text import (
    markdown_table,
    origin,
    percent_interval,
    share,
    share_interval,
    signed,
    signed_interval,
)

PARTS = {
    MAIN: "objectives",
    GROUPS: "groups",
    SEARCH: "search",
    BEHAVIOUR: "behaviour",
    LOSSES: "losses",
    DRIFT: "drift",
    LEGALITY: "legality",
}
Rows = list[dict[str, Any]]
SEARCH_LABELS = {"beam": "", "selection": " + selection by the reward model"}
JUDGED_HEADER = (
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
BOUNDS_HEADER = (
    "gradients",
    "mean factor of negative advantages",
    "largest",
    "largest ratio",
    "mean norm",
    "largest norm",
    "downward alone, mean",
    "largest",
)


def markdown(results: dict[str, Any]) -> str:
    """All tables of a file."""
    return "\n\n".join(parts(results).values())


def parts(results: dict[str, Any]) -> dict[str, str]:
    """Every table by name; the last part is the file's origin."""
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


def main_table(group: str, rows: Rows) -> str:
    """Lists of the generator, then selected lists; differences are to generation before alignment."""
    judged = "judge" in rows[0]["beam"]["test"]
    cells_of = judged_cells if judged else plain_cells
    header = JUDGED_HEADER if judged else ("Recall@10", "difference", "NDCG@10", "difference", "by seed")
    lines = [cells_of(row, search) for search in SEARCH_LABELS for row in rows if search in row]
    seeds = ", ".join(str(seed) for seed in rows[0]["seeds"])
    said = f"Seeds {seeds}; intervals over users and seeds, differences paired."
    return f"{markdown_table((group, *header), lines)}\n\n{said}"


def judged_cells(row: dict[str, Any], search: str) -> list[str]:
    """A row of the main table where a reward model judges."""
    found, difference = row[search]["test"], row[search].get("difference", {})
    return [
        row["label"] + SEARCH_LABELS[search],
        share(found["judge"]["value"]),
        percent_interval(difference["judge_gain"]) if difference else "",
        share_interval(found["hit"]),
        share(found["recall@10"]["value"]),
        signed_interval(difference["recall@10"]) if difference else "",
        share(found["ndcg@10"]["value"]),
        f"{row[search]['coverage@10']:.0%}",
        f"{found['cold']['value']:.1%}",
        f"{found['seconds']['value']:.0f} s",
        generating(row) if search == "beam" else "",
    ]


def plain_cells(row: dict[str, Any], search: str) -> list[str]:
    """A row of the main table where nobody judges."""
    found, difference = row[search]["test"], row[search].get("difference", {})
    return [
        row["label"] + SEARCH_LABELS[search],
        share_interval(found["recall@10"]),
        signed_interval(difference["recall@10"]) if difference else "",
        share_interval(found["ndcg@10"]),
        signed_interval(difference["ndcg@10"]) if difference else "",
        ", ".join(signed(one["ndcg@10"]) for one in row[search].get("by_seed", {}).values()),
    ]


def group_table(group: str, rows: Rows) -> str:
    """Ablations: gains over the generator before alignment, and differences to the row that they change."""
    lines = []
    for row in rows:
        found = row["beam"]
        lines.append(
            (
                row["label"],
                percent_interval(found["difference"]["judge_gain"]),
                percent_interval(found["against"]["judge_gain"]) if "against" in found else "",
                signed_interval(found["difference"]["recall@10"]),
                f"{found['coverage@10']:.0%}",
                last(row["curves"].get("kl_to_start")),
                f"{row['seconds']['alignment_processor']:.0f} s",
                generating(row),
            )
        )
    return markdown_table((group, *GROUP_HEADER), lines)


def legality_table(group: str, rows: Rows) -> str:
    """Shares of free samples that are items, for test users and over the steps of training."""
    header = ("legal, test users", "difference", "legal in training: first, least, most, last", "entropy: first, last")
    lines = []
    for row in rows:
        curves = row.get("curves", {})
        legal, entropy = curves.get("legality"), curves.get("entropy")
        lines.append(
            (
                row["label"],
                share_interval(row["legality"]),
                signed_interval(row["difference"]) if "difference" in row else "",
                ", ".join(f"{x:.1%}" for x in (legal[0], min(legal), max(legal), legal[-1])) if legal else "",
                f"{entropy[0]:.1f}, {entropy[-1]:.1f} nats" if entropy else "",
            )
        )
    return markdown_table((group, *header), lines)


def pass_table(rows: Rows) -> str:
    """Pass@K: of the K most probable items the judge's best P-Score, and how many users took one."""
    ks = list(rows[0]["pass_at_k"]["judge"])
    lines = [
        (row["label"], label, *(share(row["pass_at_k"][kind][k]["value"]) for k in ks))
        for kind, label in (("judge", "best P-Score"), ("hit", "users with a hit"))
        for row in rows
        if "pass_at_k" in row
    ]
    return markdown_table(("Pass@K", "", *ks), lines)


def bounds_table(rows: Rows) -> str:
    """Over all steps: factors of negative advantages, ratios, and norms of the objective's gradient.

    The last two columns are the norms of the part that makes generations less likely; rows of earlier versions have none.
    """
    lines = []
    for row in rows:
        bounds = row["bounds"]
        if "negative_coefficient" in bounds:
            factor, norm = bounds["negative_coefficient"], bounds["objective_gradient_norm"]
            figures = [factor["mean"], factor["largest"], bounds["ratio_max"]["largest"], norm["mean"], norm["largest"]]
            downward = bounds.get("negative_gradient_norm")
            figures += [downward["mean"], downward["largest"]] if downward else []
            told = [f"{figure:,.3g}" for figure in figures]
            lines.append([row["label"], *told, *[""] * (0 if downward else 2)])
    return markdown_table(BOUNDS_HEADER, lines)


def durations_table(rows: Rows) -> str:
    """How rewards follow the length of videos."""
    lines = [
        (
            row["reward"],
            f"{row['exposures']}, {row['count']:,}",
            signed_interval(row["spearman"]),
            f"{row['rewarded']:.1%}" if "rewarded" in row else "",
        )
        for row in rows
    ]
    return markdown_table(("reward", "exposures", "Spearman with the video's length", "share with +1"), lines)


def generating(row: dict[str, Any]) -> str:
    """The share of alignment's time that went into generating groups, a mean over the steps."""
    found = row.get("rollout_share")
    return "" if found is None else f"{found:.0%}"


def last(curve: list[float | None] | None) -> str:
    """The last known value of a curve."""
    values = [value for value in curve or [] if value is not None]
    return f"{values[-1]:.2f}" if values else ""
