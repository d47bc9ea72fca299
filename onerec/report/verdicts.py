"""What a run shows, in a few sentences that are computed from its figures; the page and the terminal say the same ones.

A model is called above or below another only where the paired 95 % interval leaves zero out, and level with it elsewhere.
"""

from onerec.report.models import Comparison, in_brackets
from onerec.report.values import count, duration, figure, in_words, verdict
from onerec.run.models import P_SCORE


def verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    """(what it is about, sentences): the best list, generation alone, what pays, and the cost; what is unknown is left out."""
    found = [
        ("Best list", _best(comparison)),
        ("Generation alone", _generation(comparison)),
        ("What pays", _pays(comparison)),
        ("Cost", _cost(comparison)),
    ]
    return [(name, words) for name, words in found if words]


def _best(comparison: Comparison) -> str:
    """Which list has the highest NDCG@10, and how it stands to the best one of the other side."""
    best = next(iter(comparison.models), None)
    highest = best.interval("ndcg@10") if best else None
    if best is None or highest is None:
        return ""
    words = f"{best.label} has the highest NDCG@10, {figure(highest.value)}."
    own, baseline = next(iter(comparison.own), None), comparison.best_baseline
    if own is None or baseline is None:
        return words
    ours = best is own
    called = f"{baseline.label}, the best baseline," if ours else baseline.label
    standing = comparison.standing(own, baseline, called)
    subject = "It" if ours else f"{own.label}, the best list of the generator,"
    return f"{words} {subject} is {standing}." if standing else words


def _generation(comparison: Comparison) -> str:
    generator, baseline = comparison.generator, comparison.best_baseline
    standing = comparison.standing(generator, baseline) if generator and baseline else ""
    return f"{generator.label} is {standing}." if generator and standing else ""


def _pays(comparison: Comparison) -> str:
    """Which derived models are better than the generator alone in NDCG@10, and which are better in P-Score."""
    generator = comparison.generator
    if generator is None:
        return ""
    groups: dict[str, list[str]] = {}
    liked = []
    for model in (model for model in comparison.own if model is not generator):
        difference = comparison.difference(model, generator, "ndcg@10")
        if difference and (word := verdict(difference)):
            gain = "" if word == "level with" else f" {in_brackets(difference)}"
            groups.setdefault(word, []).append(model.label + gain)
        score = comparison.difference(model, generator, P_SCORE)
        if score and verdict(score) == "above":
            liked.append(model.label)
    said = []
    if names := groups.get("above"):
        said.append(f"{in_words(names)} {_verb('gains', names)} NDCG@10 over {generator.label}.")
    if names := groups.get("level with"):
        said.append(f"{in_words(names)} {_verb('does', names)} not pay: level with {generator.label}.")
    if names := groups.get("below"):
        said.append(f"{in_words(names)} {_verb('loses', names)} NDCG@10 against {generator.label}.")
    if said and liked:
        be = "is" if len(liked) == 1 else "are"
        said.append(f"In P-Score, which a separate reward model gives, {in_words(liked)} {be} above {generator.label}.")
    return " ".join(said)


def _verb(verb: str, subjects: list[str]) -> str:
    """The verb in the number of its subjects."""
    return verb if len(subjects) == 1 else {"gains": "gain", "does": "do", "loses": "lose"}[verb]


def _cost(comparison: Comparison) -> str:
    """Training time and speed of the generator's best list beside those of the best baseline."""
    models = [model for model in (next(iter(comparison.own), None), comparison.best_baseline) if model]
    seconds = [model.number("train_seconds") for model in models]
    speeds = [model.number("recommend_users_per_second") for model in models]
    if not models or None in seconds or None in speeds:
        return ""
    times = [f"{duration(took or 0)} for {model.label}" for took, model in zip(seconds, models, strict=True)]
    rates = [count(speed or 0) for speed in speeds]
    they = "they recommend" if len(models) > 1 else "it recommends"
    return f"Training took {in_words(times)}; {they} to {' and '.join(rates)} users a second."
