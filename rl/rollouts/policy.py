"""A generator as a policy: differentiable log-probabilities of code sequences, under the trie or free.

The caller sets the generator's mode. With dropout, two calls give different log-probabilities, so only in eval mode is a policy's
ratio to itself 1.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from onerec.data.requests import Requests
from onerec.data.windows import Batch
from onerec.errors import UserError
from onerec.model.bound_generator import BoundGenerator, bind
from onerec.model.generator import Generator

Part = TypeVar("Part")
NEVER = -1e9  # log-probability of an impossible code; finite, because 0 · -inf is NaN in an entropy and in its gradient


@dataclass(frozen=True)
class ScoredCodes:
    """G code sequences of each of B users under a policy. Both tensors have gradients.

    Attributes:
        log_probabilities_BGL: float32, of each code given the codes before it, in nats.
        entropies_BGL: float32, of the distribution that each code was chosen from, in nats. Under the trie it covers only codes
            that lead to an item; with a single such code the entropy is 0.
    """

    log_probabilities_BGL: Tensor
    entropies_BGL: Tensor


def score_codes(generator: Generator, batch: Batch, codes_BGL: Tensor, free: bool) -> ScoredCodes:
    """Log-probabilities and entropies of code sequences. Each history is encoded once, and all codes are scored in one pass.

    Under the trie, the log-probabilities equal those of beam search and of `BoundGenerator.log_probabilities_of`. Gradients reach
    the encoder, the heads, and the item head and the item scorer of lookahead if there are any. With `softmax: full` the
    probabilities of all items need not sum to one. Free, each code is chosen among all V codes of its level, so a sequence that
    belongs to no item has a probability too.

    Args:
        generator: the policy.
        batch: histories of B users.
        codes_BGL: int64, G sequences of L codes for each user.
        free: score without the trie.

    Raises:
        UserError: `free`, but the generator has probabilities for legal codes only; a code is not in its level's range; or, under
            the trie, no item has the codes.
    """
    check_codes(generator, codes_BGL)
    if free:
        check_free(generator)
    bound = bind(generator, batch)
    states_BGLD = bound.states_of_codes(codes_BGL)
    levels = _free(generator, states_BGLD, codes_BGL) if free else _legal(bound, states_BGLD, codes_BGL)
    log_probabilities, entropies = zip(*levels, strict=True)
    return ScoredCodes(torch.stack(log_probabilities, dim=-1), torch.stack(entropies, dim=-1))


def code_log_probabilities(generator: Generator, batch: Batch, codes_BGL: Tensor, free: bool) -> Tensor:
    """Only the log-probabilities `[B, G, L]` of `score_codes`."""
    return score_codes(generator, batch, codes_BGL, free).log_probabilities_BGL


def check_free(generator: Generator) -> None:
    """Refuse free generation with a generator that was not trained on all codes. Raises UserError."""
    config = generator.config
    if config.softmax == "full":
        return
    parts = [("generator.item_head", config.item_head), ("generator.lookahead", bool(config.lookahead))]
    beside = "".join(f", {name}: true" for name, there in parts if there)
    raise UserError(
        f"this generator has generator.softmax: legal{beside}. It chooses among the codes that lead to an item and has no "
        "probabilities for others; free generation needs one trained with generator.softmax=full generator.item_head=false"
    )


def check_codes(generator: Generator, codes_BGL: Tensor) -> None:
    """Refuse codes outside their level's range. Raises UserError."""
    sizes_L = torch.tensor(generator.trie.level_sizes, device=codes_BGL.device)
    if codes_BGL.shape[-1] != len(sizes_L):
        raise UserError(
            f"the generator's IDs have {len(sizes_L)} codes, but these sequences have {codes_BGL.shape[-1]}"
        )
    outside = (codes_BGL < 0) | (codes_BGL >= sizes_L)
    if outside.any():
        user, place, level = outside.nonzero()[0].tolist()
        raise UserError(
            f"generation {place} of user {user}: code {int(codes_BGL[user, place, level])} of level {level + 1} lies outside "
            f"0..{int(sizes_L[level]) - 1}"
        )


def _free(generator: Generator, states_BGLD: Tensor, codes_BGL: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each level, log-probabilities and entropies `[B, G]` over all codes."""
    decoder, found = generator.decoder, []
    for level in range(generator.levels):
        logits_BGV = decoder.heads[level](decoder.head_norms[level](states_BGLD[:, :, level])).float()
        log_probabilities_BGV = logits_BGV.log_softmax(dim=-1)
        chosen_BG = log_probabilities_BGV.gather(-1, codes_BGL[..., level, None])[..., 0]
        found.append((chosen_BG, _entropy(log_probabilities_BGV)))
    return found


def _legal(bound: BoundGenerator, states_BGLD: Tensor, codes_BGL: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The same over the codes that lead to an item, while walking down the trie."""
    trie, found = bound.generator.trie, []
    prefixes_BG = torch.zeros_like(codes_BGL[..., 0])
    for level in range(trie.levels):
        codes_BGM, first_edges_BG, legal_BGM = trie.edges(prefixes_BG, level)
        chosen_BGM = legal_BGM & (codes_BGM == codes_BGL[..., level, None])
        if not chosen_BGM.any(dim=-1).all():
            user, place = (~chosen_BGM.any(dim=-1)).nonzero()[0].tolist()
            raise UserError(
                f"generation {place} of user {user}: no item has the codes {codes_BGL[user, place].tolist()}, so a policy under "
                "the trie cannot generate them; score free generations with free=True"
            )
        place_BG = chosen_BGM.int().argmax(dim=-1)
        children = bound.child_log_probabilities(states_BGLD[:, :, level], prefixes_BG, level)
        log_probabilities_BG = children.log_probabilities.gather(-1, place_BG[..., None])[..., 0]
        # Under the trie a code is chosen among the children, even if other codes keep some of the probability.
        among_BGM = children.log_probabilities.masked_fill(~legal_BGM, NEVER).log_softmax(dim=-1)
        found.append((log_probabilities_BG, _entropy(among_BGM)))
        prefixes_BG = first_edges_BG + place_BG + 1
    return found


def _entropy(log_probabilities: Tensor) -> Tensor:
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def batch_of(generator: Generator, prompts: Requests) -> Batch:
    """The newest events of prompts in one batch, in the order of the prompts, on the generator's device."""
    config = generator.config
    batches = prompts.batches(config.history_length, config.pathways.positive_length, max(len(prompts), 1))
    (order, batch), *_ = batches
    return _rows(batch, np.argsort(order)).to(generator.decoder.level_embeddings.device)


def _rows(part: Part, rows: np.ndarray) -> Part:
    """Rows of a batch, or of a dataclass inside it."""
    values = [getattr(part, field.name) for field in fields(part)]  # type: ignore[arg-type]
    chosen = [_rows(value, rows) if is_dataclass(value) else None if value is None else value[rows] for value in values]
    return type(part)(*chosen)
