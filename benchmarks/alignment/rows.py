"""The rows of the alignment benchmark: which generator, which settings of `align`, what is measured, and against which row.

A row changes keys of the dataset's config; the config as it ships is the row `ecpo`, so a difference is the work of one thing.
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.study.cells import Row

KUAIRAND, BEAUTY = "kuairand-pure", "amazon-beauty"
SEEDS = (17, 18, 19)
FEWER = SEEDS[:2]
MAIN, GROUPS, SEARCH, BEHAVIOUR, LOSSES, DRIFT, LEGALITY = (
    "objectives",
    "size of the group",
    "how groups are generated",
    "who generates",
    "what is learnt from",
    "far from who generates: no next-code loss, ten times the rate",
    "free sampling and the format reward",
)
# One search for lists and for selection.
COMMON = ("recommend.beam_width=128", "selection=null", "baselines.sasrec=null")
QUICK = (
    "tokenizer.quantizer.rq_vae.steps=50",
    "train.epochs=1",
    "reward.train.epochs=1",
    "align.steps=4",
    "align.batch_size=8",
    "align.next_code.batch_size=8",
    "align.rollouts.group_size=16",
)


@dataclass(frozen=True)
class AlignmentRow(Row):
    """A row of the table. It aligns the generator of the row that it needs; without one it trains a generator and measures it.

    Attributes:
        measured: "all" (lists, selection, Pass@K, every test user), "lists" (of fewer users), "ranks" (lists that nobody judges)
            or "legality" (of free samples).
    """

    measured: str = "all"

    @property
    def start(self) -> str:
        """The row whose generator is aligned; its own name where none is."""
        return self.needs or self.name


def settings_of(row: Row, start: Row, quick: bool) -> list[str]:
    """What changes in the config of the dataset; the generator is that of the row `start`."""
    return [*COMMON, *start.settings, *(row.settings if row != start else ()), *(QUICK if quick else ())]


FREE_SAMPLES = ("align.rollouts.method=free", "align.rollouts.exclude_seen=false", "align.limits.legality=0")
FREE_GENERATOR = ("generator.softmax=full", "generator.item_head=false")
# Rewards this small leave a group without advantages, like rewards that are all alike.
NO_OBJECTIVE = "align.rewards.p_score=1e-9"
# DPO's gradient is about a third as long as those of the others, so a third of the weight holds it.
SHORTER = "align.next_code.weight=2.5"
ONCE = "align.next_code.weight=1"
NEVER = "align.refresh_every=1000000"
NO_LIMIT = "align.limits.entropy=0"
# The generator before alignment makes all groups, the rate is tenfold, and nothing holds the policy: ratios grow.
DRIFTING = (
    NEVER,
    "align.next_code.weight=0",
    NO_LIMIT,
    "align.learning_rate=0.002",
    "align.final_learning_rate_share=1",
)
TENFOLD = "align.format.weight=10"
LONG = "align.steps=2000"
MOST_PROBABLE = "align.format.by=most_probable"
TOP_K_TOP_P = ("align.rollouts.method=sample", "align.rollouts.top_k=50", "align.rollouts.top_p=0.9")


def row_of(dataset: str, name: str, group: str, label: str, *settings: str, **options: Any) -> Row:
    """A row that aligns the generator of the row `start`, with three seeds, unless `options` say otherwise."""
    usual: dict[str, Any] = {"against": "start", "needs": "start", "seeds": SEEDS}
    return AlignmentRow(dataset, name, group, label, settings, **(usual | options))


def kuairand_rows() -> list[Row]:
    """Objectives with three seeds, everything else with two."""

    def ablation(name: str, group: str, label: str, *settings: str, against: str = "ecpo") -> Row:
        options = {"against": against, "seeds": FEWER, "measured": "lists"}
        return row_of(KUAIRAND, name, group, label, *settings, **options)

    def free(name: str, label: str, *settings: str) -> Row:  # samples of codes, whether an item has them or not
        options = {"against": "start_free", "needs": "start_free", "seeds": FEWER, "measured": "legality"}
        return row_of(KUAIRAND, name, LEGALITY, label, *FREE_SAMPLES, *settings, **options)

    def objective(name: str, label: str, *settings: str) -> Row:
        return row_of(KUAIRAND, name, MAIN, label, f"align.objective={name}", *settings)

    unaligned = {"against": "start_free", "needs": "", "seeds": FEWER, "measured": "legality"}
    return [
        row_of(KUAIRAND, "start", MAIN, "not aligned", needs=""),
        row_of(KUAIRAND, "next_code", MAIN, "the next-code loss alone, as many steps", NO_OBJECTIVE),
        objective("ecpo", "ECPO, as shipped"),
        objective("grpo", "GRPO"),
        objective("gbpo", "GBPO"),
        objective("dpo", "DPO against all worse at once", "align.negatives=softmax", SHORTER),
        objective("ipa", "IPA: DPO, best against worst", SHORTER),
        ablation("group_8", GROUPS, "groups of 8", "align.rollouts.group_size=8"),
        ablation("group_128", GROUPS, "groups of 128", "align.rollouts.group_size=128"),
        ablation("group_512", GROUPS, "groups of 512", "align.rollouts.group_size=512"),
        ablation("sample", SEARCH, "independent samples", "align.rollouts.method=sample"),
        ablation("top_k_top_p", SEARCH, "samples with top-k 50 and top-p .9", *TOP_K_TOP_P),
        ablation("without_replacement", SEARCH, "stochastic beams", "align.rollouts.method=without_replacement"),
        ablation("on_policy", BEHAVIOUR, "the policy itself at every step", "align.refresh_every=1"),
        ablation("off_policy", BEHAVIOUR, "the generator before alignment, ECPO", NEVER),
        ablation("off_policy_grpo", BEHAVIOUR, "the same, GRPO", NEVER, "align.objective=grpo", against="off_policy"),
        ablation("weight_20", LOSSES, "next-code loss x 20", "align.next_code.weight=20"),
        ablation("weight_1", LOSSES, "next-code loss x 1", ONCE),
        ablation("weight_0", LOSSES, "no next-code loss", "align.next_code.weight=0", NO_LIMIT),
        ablation("codes", LOSSES, "ratios of codes instead of items", "align.level=code"),
        ablation("hit", LOSSES, "rule reward: hits", "align.rewards.p_score=0", "align.rewards.hit=1"),
        row_of(KUAIRAND, "long", LOSSES, "2,000 steps", LONG, against="ecpo", seeds=SEEDS[:1], measured="lists"),
        ablation("drift_ecpo", DRIFT, "ECPO", *DRIFTING),
        ablation("drift_grpo", DRIFT, "GRPO", *DRIFTING, "align.objective=grpo", against="drift_ecpo"),
        ablation("drift_gbpo", DRIFT, "GBPO", *DRIFTING, "align.objective=gbpo", against="drift_ecpo"),
        row_of(KUAIRAND, "start_free", LEGALITY, "not aligned", *FREE_GENERATOR, **unaligned),
        free("format_none", "without format reward"),
        free("format_random", "format reward, 5 at random", "align.format.weight=1"),
        free("format_top", "format reward, the 5 most probable", "align.format.weight=1", MOST_PROBABLE),
        free("format_none_1", "next-code loss x 1: without format reward", ONCE),
        free("format_random_1", "next-code loss x 1: 5 at random", ONCE, "align.format.weight=1"),
        free("format_top_1", "next-code loss x 1: the 5 most probable", ONCE, "align.format.weight=1", MOST_PROBABLE),
        free("format_random_10", "next-code loss x 1, format reward x 10: 5 at random", ONCE, TENFOLD),
        free(
            "format_top_10", "next-code loss x 1, format reward x 10: the 5 most probable", ONCE, TENFOLD, MOST_PROBABLE
        ),
        free("format_none_1_long", "next-code loss x 1: without format reward, 2,000 steps", ONCE, LONG),
        free(
            "format_random_10_long",
            "next-code loss x 1, format reward x 10: 5 at random, 2,000 steps",
            ONCE,
            TENFOLD,
            LONG,
        ),
    ]


def beauty_rows() -> list[Row]:
    """Rewards by rule: nothing on Beauty says how much somebody liked an item."""

    def rule(name: str, label: str, hit: float, rank: float) -> Row:
        weights = (f"align.rewards.hit={hit}", f"align.rewards.rank={rank}")
        return row_of(BEAUTY, name, MAIN, label, *weights, measured="ranks")

    return [
        row_of(BEAUTY, "start", MAIN, "not aligned", needs="", measured="ranks"),
        rule("next_code", "the next-code loss alone, as many steps", 1e-9, 0),
        rule("hit", "ECPO, hits", 1, 0),
        rule("hit_rank", "ECPO, hits and ranks, as shipped", 1, 1),
    ]


ROWS = {KUAIRAND: kuairand_rows, BEAUTY: beauty_rows}
