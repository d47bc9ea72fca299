"""Beam search over the item trie, for all users of a batch at once.

The context is encoded once per user and never copied per beam, the decoder keeps a cache, and no beam takes a code that leads
to no item. The result is items with exact log-probabilities: the same numbers that teacher forcing gives for these items. A
beam at least as wide as the catalogue ranks every item.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from onerec.decode.item_trie import ItemTrie

Cache = TypeVar("Cache")


@dataclass(frozen=True)
class Children:
    """The legal continuations of states of one level, padded to the widest branch M.

    Attributes:
        log_probabilities: float32 `[..., M]`, -inf where padded.
        first_edges: int64 `[...]`, the trie's edge to the first child of each state. The edges to the other children follow it.
    """

    log_probabilities: Tensor
    first_edges: Tensor


class StepDecoder(Protocol[Cache]):
    """What beam search needs from a model that is bound to an encoded batch of contexts."""

    @property
    def legal_only(self) -> bool:
        """Whether all probability goes to legal continuations, so that an only continuation has probability 1."""
        ...

    def users_at_once(self, beam_width: int) -> int:
        """How many users to step together."""
        ...

    def part(self, users: slice, cache: Cache) -> "tuple[StepDecoder[Cache], Cache]":
        """The same model bound to some of the users, and their part of a cache."""
        ...

    def start(self) -> tuple[Tensor, Cache]:
        """Hidden states `[B, 1, D]` before the first code, and their cache."""
        ...

    def step(self, codes_BK: Tensor, parents_BK: Tensor, level: int, cache: Cache) -> tuple[Tensor, Cache]:
        """Hidden states `[B, K, D]` before the code of `level`, where beams `parents_BK` of the last step chose `codes_BK`."""
        ...

    def child_log_probabilities(self, hidden_BKD: Tensor, states_BK: Tensor, level: int) -> Children:
        """The legal continuations of every beam with their log-probabilities."""
        ...


@dataclass(frozen=True)
class Beams:
    """Items found, best first.

    Attributes:
        items_BK: int64, -1 where there are fewer than K items for a user.
        log_probabilities_BK: float32, `log p(item | context)` in nats, -inf where there is no item.
        log_probabilities_BKL: the same for each code given the codes before it; None unless `by_level`.
    """

    items_BK: Tensor
    log_probabilities_BK: Tensor
    log_probabilities_BKL: Tensor | None = None


def beam_search(
    decoder: StepDecoder[Cache],
    trie: ItemTrie,
    *,
    beam_width: int,
    excluded_BS: Tensor | None = None,
    by_level: bool = False,
) -> Beams:
    """Find each user's most probable items.

    Args:
        decoder: a model bound to the batch's contexts.
        trie: the legal IDs.
        beam_width: beams kept per user after each level, K; fewer where a level offers fewer.
        excluded_BS: int64 items that a user must not get, such as those already seen, padded with -1. They are removed after
            the last code. The probabilities of the other items do not change.
        by_level: also return the log-probability of every code.

    Returns:
        Beams sorted by log-probability.
    """
    beam_width = min(beam_width, trie.item_count)
    hidden_B1D, cache = decoder.start()
    at_once = decoder.users_at_once(beam_width)
    found: list[Beams] = []
    for first in range(0, len(hidden_B1D), at_once):
        users = slice(first, first + at_once)
        excluded = None if excluded_BS is None else excluded_BS[users]
        found.append(_search(*decoder.part(users, cache), hidden_B1D[users], trie, beam_width, excluded, by_level))
    width = max(beams.items_BK.shape[1] for beams in found)
    levels = [beams.log_probabilities_BKL for beams in found if beams.log_probabilities_BKL is not None]
    return Beams(
        torch.cat([_padded(beams.items_BK, width, -1) for beams in found]),
        torch.cat([_padded(beams.log_probabilities_BK, width, -torch.inf) for beams in found]),
        torch.cat([_padded(one, width, -torch.inf) for one in levels]) if levels else None,
    )


@dataclass(frozen=True)
class _Prefixes:
    """The beams between two levels.

    A prefix is settled when only one item continues it. Its other codes are certain, so the decoder need not step it.

    Attributes:
        open_BQ, open_scores_BQ: states that the decoder steps, and their scores; -inf for a place without a beam.
        settled_BS, settled_scores_BS: states that the decoder does not step, and their scores; -inf for a place without a beam.
    """

    open_BQ: Tensor
    open_scores_BQ: Tensor
    settled_BS: Tensor
    settled_scores_BS: Tensor


def _search(
    decoder: StepDecoder[Cache],
    cache: Cache,
    hidden_BQD: Tensor,
    trie: ItemTrie,
    beam_width: int,
    excluded_BS: Tensor | None,
    by_level: bool,
) -> Beams:
    """Beam search over users that are stepped together, from their hidden states before the first code."""
    root_B1 = torch.zeros((len(hidden_BQD), 1), dtype=torch.long, device=hidden_BQD.device)
    score_B1 = torch.zeros_like(root_B1, dtype=torch.float32)
    beams = _Prefixes(root_B1, score_B1, root_B1[:, :0], score_B1[:, :0])
    # Settled prefixes make the shapes of a step depend on the beams, so only CPUs use them.
    settle = decoder.legal_only and hidden_BQD.device.type == "cpu"
    prefixes: list[tuple[Tensor, Tensor]] = []
    for level in range(trie.levels - 1):
        children = decoder.child_log_probabilities(hidden_BQD, beams.open_BQ, level)
        scores_BK, states_BK, parents_BK = _best(beams, children, trie, beam_width)
        if by_level:
            prefixes.append((states_BK, scores_BK))
        beams, stepped_BQ = _split(scores_BK, states_BK, trie, settle)
        codes_BQ = trie.codes[beams.open_BQ - 1].long()
        hidden_BQD, cache = decoder.step(codes_BQ, parents_BK.gather(1, stepped_BQ), level + 1, cache)
    children = decoder.child_log_probabilities(hidden_BQD, beams.open_BQ, trie.levels - 1)
    # This many extra places leave enough beams even if all excluded items are among them.
    spare = 0 if excluded_BS is None else excluded_BS.shape[1]
    scores_BK, states_BK, _ = _best(beams, children, trie, beam_width + spare)
    items_BK = torch.where(scores_BK > -torch.inf, trie.items_of(states_BK), -1)
    if excluded_BS is not None:
        scores_BK = scores_BK.masked_fill(_contains(excluded_BS, items_BK), -torch.inf)
        scores_BK, kept_BK = scores_BK.topk(min(beam_width, scores_BK.shape[1]), dim=1)
        items_BK = torch.where(scores_BK > -torch.inf, items_BK.gather(1, kept_BK), -1)
    return Beams(items_BK, scores_BK, _of_levels(items_BK, scores_BK, prefixes, trie) if by_level else None)


def _of_levels(items_BK: Tensor, scores_BK: Tensor, prefixes: list[tuple[Tensor, Tensor]], trie: ItemTrie) -> Tensor:
    """Log-probabilities of each code, `[B, K, L]`: the differences between the scores of an item's prefixes."""
    sums = [torch.zeros_like(scores_BK)]
    for level, (states_BX, prefix_scores_BX) in enumerate(prefixes):
        # A dead beam shares its state with a living one. Hide it, so that the search finds the living one.
        living_BX = states_BX.masked_fill(prefix_scores_BX == -torch.inf, -1)
        sorted_BX, order_BX = living_BX.sort(dim=1)
        wanted_BK = trie.states_NL[items_BK.clamp(min=0), level + 1]
        places_BK = torch.searchsorted(sorted_BX, wanted_BK).clamp(max=sorted_BX.shape[1] - 1)
        sums.append(prefix_scores_BX.gather(1, order_BX.gather(1, places_BK)))
    levels_BKL = torch.stack([*sums, scores_BK], dim=2).diff(dim=2)
    return levels_BKL.masked_fill(items_BK[..., None] < 0, -torch.inf)


def _best(beams: _Prefixes, children: Children, trie: ItemTrie, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and states of the best continuations of all beams, and the open beam that each grew from (0 for settled ones)."""
    places, branch = children.log_probabilities.shape[1:]
    grown_BX = (beams.open_scores_BQ[..., None] + children.log_probabilities).flatten(1)
    scores_BX = torch.cat([grown_BX, beams.settled_scores_BS], dim=1)
    scores_BK, chosen_BK = scores_BX.topk(min(count, scores_BX.shape[1]), dim=1)
    parents_BK = chosen_BK.div(branch, rounding_mode="floor")
    edges_BQS = torch.cat([children.first_edges, trie.offsets[beams.settled_BS]], dim=1)
    of_settled_BK = chosen_BK - places * branch
    grown_BK = of_settled_BK < 0
    from_BK = torch.where(grown_BK, parents_BK, places + of_settled_BK)
    steps_BK = torch.where(grown_BK, chosen_BK - parents_BK * branch, 0)
    states_BK = edges_BQS.gather(1, from_BK) + steps_BK + 1
    # A dead beam (score -inf) was reached through padding. Any state of this level lets it continue without harm.
    states_BK = torch.where(scores_BK > -torch.inf, states_BK, states_BK[:, :1])
    return scores_BK, states_BK, torch.where(grown_BK, parents_BK, 0)


def _split(scores_BK: Tensor, states_BK: Tensor, trie: ItemTrie, settle: bool) -> tuple[_Prefixes, Tensor]:
    """Separate settled beams from open ones. Also return the place of each open beam among all beams."""
    if not settle:
        every_BK = torch.arange(states_BK.shape[1], device=states_BK.device).expand_as(states_BK)
        return _Prefixes(states_BK, scores_BK, states_BK[:, :0], scores_BK[:, :0]), every_BK
    settled_BK = trie.settled[states_BK]
    open_BK = ~settled_BK & (scores_BK > -torch.inf)
    places = max(1, int(open_BK.sum(dim=1).max()))
    order_BQ = open_BK.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :places]
    open_scores_BK = scores_BK.masked_fill(~open_BK, -torch.inf)
    beams = _Prefixes(
        states_BK.gather(1, order_BQ),
        open_scores_BK.gather(1, order_BQ),
        states_BK,
        scores_BK.masked_fill(open_BK, -torch.inf),
    )
    return beams, order_BQ


def _padded(beams_BK: Tensor, width: int, value: float) -> Tensor:
    """Pad the beams of every user to `width` places: `[B, width]` or `[B, width, L]`."""
    missing = (0, 0) * (beams_BK.ndim - 2) + (0, width - beams_BK.shape[1])
    return torch.nn.functional.pad(beams_BK, missing, value=value)


def _contains(sets_BS: Tensor, items_BK: Tensor) -> Tensor:
    """Whether each user's items are in the user's set."""
    if sets_BS.shape[1] == 0:
        return torch.zeros_like(items_BK, dtype=torch.bool)
    sorted_BS = sets_BS.sort(dim=1).values
    places_BK = torch.searchsorted(sorted_BS, items_BK).clamp(max=sorted_BS.shape[1] - 1)
    return sorted_BS.gather(1, places_BK) == items_BK
