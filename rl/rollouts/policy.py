"""A generator as a policy: differentiable log-probabilities of code sequences, under the trie or free of it.

Dropout changes a policy from one call to the next, so its ratio to itself is 1 in eval mode only. The mode is the caller's.
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
NEVER = -1e9  # the logarithm of no probability: finite, because 0 · -inf is NaN in an entropy and in its gradient


@dataclass(frozen=True)
class ScoredCodes:
    """What a policy says of G code sequences of each of B users; both have gradients.

    Attributes:
        log_probabilities_BGL: float32, of each code given those before it, in nats.
        entropies_BGL: float32, of the choice that each code was made in, in nats. Under the trie, that is the choice among the
            codes that lead to an item, and 0 where only one does.
    """

    log_probabilities_BGL: Tensor
    entropies_BGL: Tensor


def score_codes(generator: Generator, batch: Batch, codes_BGL: Tensor, free: bool) -> ScoredCodes:
    """Log-probabilities and entropies of code sequences; every history is encoded once, all codes in one pass.

    Under the trie the numbers are those that beam search finds and `BoundGenerator.log_probabilities_of` gives; gradients reach
    the encoder, the heads and, where there are any, the item head and the item scorer behind lookahead. With `softmax: full`
    they hence do not add up to one over items. Free, each code is chosen among all V of its level, and sequences that are no
    item's have probabilities like all others.

    Args:
        generator: the policy.
        batch: histories of B users.
        codes_BGL: int64, G sequences of L codes for each user.
        free: without the trie.

    Raises:
        UserError: `free` for a generator that only knows choices among legal codes; a code that its level does not have;
            under the trie, codes that no item has.
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
    """The log-probabilities `[B, G, L]` of `score_codes` alone."""
    return score_codes(generator, batch, codes_BGL, free).log_probabilities_BGL


def check_free(generator: Generator) -> None:
    """Refuse free generation where codes that lead to no item were never compared with any. Raises UserError."""
    config = generator.config
    if config.softmax == "full":
        return
    parts = [("generator.item_head", config.item_head), ("generator.lookahead", bool(config.lookahead))]
    beside = "".join(f", {name}: true" for name, there in parts if there)
    raise UserError(
        f"this generator has generator.softmax: legal{beside}: it chooses among the codes that lead to an item, and has no "
        "probabilities for others. Free generation needs one trained with generator.softmax=full generator.item_head=false"
    )


def check_codes(generator: Generator, codes_BGL: Tensor) -> None:
    """Refuse codes that are not within their level. Raises UserError."""
    sizes_L = torch.tensor(generator.trie.level_sizes, device=codes_BGL.device)
    if codes_BGL.shape[-1] != len(sizes_L):
        raise UserError(f"the generator's IDs have {len(sizes_L)} codes, these sequences {codes_BGL.shape[-1]}")
    outside = (codes_BGL < 0) | (codes_BGL >= sizes_L)
    if outside.any():
        user, place, level = outside.nonzero()[0].tolist()
        raise UserError(
            f"generation {place} of user {user}: code {int(codes_BGL[user, place, level])} of level {level + 1} lies outside "
            f"0..{int(sizes_L[level]) - 1}"
        )


def _free(generator: Generator, states_BGLD: Tensor, codes_BGL: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each level log-probabilities and entropies `[B, G]` among all codes."""
    decoder, found = generator.decoder, []
    for level in range(generator.levels):
        logits_BGV = decoder.heads[level](decoder.head_norms[level](states_BGLD[:, :, level])).float()
        log_probabilities_BGV = logits_BGV.log_softmax(dim=-1)
        chosen_BG = log_probabilities_BGV.gather(-1, codes_BGL[..., level, None])[..., 0]
        found.append((chosen_BG, _entropy(log_probabilities_BGV)))
    return found


def _legal(bound: BoundGenerator, states_BGLD: Tensor, codes_BGL: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The same among the codes that lead to an item, walking down the trie with the codes."""
    trie, found = bound.generator.trie, []
    prefixes_BG = torch.zeros_like(codes_BGL[..., 0])
    for level in range(trie.levels):
        codes_BGM, first_edges_BG, legal_BGM = trie.edges(prefixes_BG, level)
        chosen_BGM = legal_BGM & (codes_BGM == codes_BGL[..., level, None])
        if not chosen_BGM.any(dim=-1).all():
            user, place = (~chosen_BGM.any(dim=-1)).nonzero()[0].tolist()
            raise UserError(
                f"generation {place} of user {user}: no item has the codes {codes_BGL[user, place].tolist()}, which a policy "
                "under the trie never writes; score free generations with free=True"
            )
        place_BG = chosen_BGM.int().argmax(dim=-1)
        children = bound.child_log_probabilities(states_BGLD[:, :, level], prefixes_BG, level)
        log_probabilities_BG = children.log_probabilities.gather(-1, place_BG[..., None])[..., 0]
        # Under the trie a code is chosen among the children, also where the others keep a share of the probability.
        among_BGM = children.log_probabilities.masked_fill(~legal_BGM, NEVER).log_softmax(dim=-1)
        found.append((log_probabilities_BG, _entropy(among_BGM)))
        prefixes_BG = first_edges_BG + place_BG + 1
    return found


def _entropy(log_probabilities: Tensor) -> Tensor:
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def batch_of(generator: Generator, prompts: Requests) -> Batch:
    """What a generator reads of prompts: their newest events in one batch, in the prompts' order, on the generator's device."""
    config = generator.config
    batches = prompts.batches(config.history_length, config.pathways.positive_length, max(len(prompts), 1))
    (order, batch), *_ = batches
    return _rows(batch, np.argsort(order)).to(generator.decoder.level_embeddings.device)


def _rows(part: Part, rows: np.ndarray) -> Part:
    """Some rows of a batch, or of a part of one."""
    values = [getattr(part, field.name) for field in fields(part)]  # type: ignore[arg-type]
    chosen = [_rows(value, rows) if is_dataclass(value) else None if value is None else value[rows] for value in values]
    return type(part)(*chosen)
