"""Generators small enough to enumerate, and a plain reference for the distribution that is sampled."""

from collections import Counter, defaultdict

import numpy as np
import polars as pl
import torch
from scipy.stats import chisquare

from onerec.data.requests import Requests
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from tokenizer.semantic_ids import SemanticIds

SIZES = [3, 4, 3]
# float32 sums of a few log-softmaxes, computed in a different order: 1e-5 is what the project promises.
TOLERANCE = 1e-5


def small_generator(seed: int, items: int = 17, **settings: object) -> Generator:
    """A generator of at most 36 items that are far from equally likely."""
    draw = np.random.default_rng(seed)
    every = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), axis=-1).reshape(-1, len(SIZES))
    codes = draw.permutation(every)[:items].astype(np.int32)
    torch.manual_seed(seed)
    chosen = {"width": 16, "heads": 2, "hidden_width": 24, "history_length": 6, "item_head": False, **settings}
    config = GeneratorConfig(**chosen)  # type: ignore[arg-type]
    model = Generator(config, SemanticIds(pl.Series(range(len(codes))), codes, codes, SIZES)).eval()
    for head in model.decoder.heads:
        head.weight.data.mul_(1.5)
    if model.item_vectors is not None:
        torch.nn.init.normal_(model.item_vectors, std=0.3)
    return model


def scores_of_all(model: Generator, prompts: Requests) -> torch.Tensor:
    """Exact `log p(item | history)` of all items, `[B, N]`, by teacher forcing."""
    scores = torch.zeros(len(prompts), model.trie.item_count)
    for rows, batch in prompts.batches(model.config.history_length, 0, batch_size=1000):
        every = torch.arange(model.trie.item_count).expand(len(rows), -1)
        scores[torch.from_numpy(rows)] = item_log_probabilities(model, batch, every)
    return scores


def plain_truncation(
    log_probabilities: dict[int, float], temperature: float, top_k: int | None, top_p: float | None
) -> dict[int, float]:
    """Options and their probabilities after temperature, top-k and top-p, one after the other, most probable first."""
    weights = {option: np.exp(value / temperature) for option, value in log_probabilities.items()}
    ranked = sorted(weights, key=lambda option: -weights[option])[: top_k or len(weights)]
    total, kept, so_far = sum(weights[option] for option in ranked), [], 0.0
    for option in ranked:
        if top_p is None or so_far < top_p or not kept:
            kept.append(option)
        so_far += weights[option] / total
    total = sum(weights[option] for option in kept)
    return {option: weights[option] / total for option in kept}


def plain_distribution(
    model: Generator,
    scores_N: torch.Tensor,
    excluded: set[int],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> dict[int, list[float]]:
    """Of each item that may be sampled, the probability of each of its codes given those before, by walking a dictionary.

    `scores_N` are exact log-probabilities of the policy; what a prefix is worth is the sum over the items behind it.
    """
    codes = {item: tuple(row) for item, row in enumerate(model.tokens.codes_NL.tolist())}
    mass: dict[tuple[int, ...], float] = defaultdict(float)
    for item, path in codes.items():
        for length in range(len(path) + 1):
            mass[path[:length]] += float(scores_N[item].exp())
    alive = {codes[item][:length] for item in codes if item not in excluded for length in range(len(SIZES) + 1)}
    found: dict[int, list[float]] = {}
    for item, path in codes.items():
        steps: list[float] = []
        for length in range(len(path)):
            options = {
                prefix[-1]: float(np.log(mass[prefix] / mass[path[:length]]))
                for prefix in alive
                if len(prefix) == length + 1 and prefix[:-1] == path[:length]
            }
            kept = plain_truncation(options, temperature, top_k, top_p) if options else {}
            steps.append(kept.get(path[length], 0.0))
        if min(steps) > 0:
            found[item] = steps
    return found


def assert_drawn_from(found: list[int], probabilities: dict[int, float]) -> None:
    """Chi-square at one in a thousand, rare values together; seeds are fixed, so it holds or it does not."""
    counts = Counter(found)
    assert set(counts) <= set(probabilities)
    rare = [value for value, chance in probabilities.items() if chance * len(found) < 8]
    common = [value for value in probabilities if value not in rare]
    observed = [counts[value] for value in common] + [sum(counts[value] for value in rare)]
    expected = [probabilities[value] * len(found) for value in common]
    expected.append(max(len(found) - sum(expected), 0.0))
    if expected[-1] < 8:  # too few to be judged by themselves
        observed[0], expected[0] = observed[0] + observed.pop(), expected[0] + expected.pop()
    assert len(observed) > 3
    assert chisquare(observed, expected).pvalue > 1e-3
