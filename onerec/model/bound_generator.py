"""A generator bound to the encoded histories of a batch, ready for beam search, sampling and scoring."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onerec.data.windows import Batch
from onerec.decode.beam_search import Children
from onerec.errors import UserError
from onerec.model.decoders.code_decoder import EncodedContext, Past
from onerec.model.decoders.lookahead import ahead_of_all
from onerec.model.generator import Generator

# Size of one activation of the beams that a CPU steps at a time, in float32 numbers: 4 MiB.
BEAM_FLOATS = 2**20


@dataclass(frozen=True)
class BoundGenerator:
    """A generator bound to encoded histories: the `StepDecoder` that `beam_search` asks for.

    Attributes:
        generator: the model.
        context: the encoded histories.
        last_B: int64, position of each history's newest event.
        ahead_BE: lookahead logit of every edge of the trie; None without lookahead.
    """

    generator: Generator
    context: EncodedContext
    last_B: Tensor
    ahead_BE: Tensor | None = None

    @property
    def legal_only(self) -> bool:
        return self.generator.config.softmax == "legal"

    def users_at_once(self, beam_width: int) -> int:
        """On a CPU, as many users as keep one activation of their beams within 4 MiB. On other devices, all of them.

        More users at once would cost memory and save no time, because the calls are then few beside the work they do.
        """
        if self.last_B.device.type != "cpu":
            return len(self.last_B)
        return max(1, BEAM_FLOATS // (self.generator.config.width * beam_width))

    def part(self, users: slice, cache: Past) -> tuple["BoundGenerator", Past]:
        ahead_BE = None if self.ahead_BE is None else self.ahead_BE[users]
        return BoundGenerator(self.generator, self.context.part(users), self.last_B[users], ahead_BE), cache.part(users)

    def start(self) -> tuple[Tensor, Past]:
        decoder = self.generator.decoder
        rows = torch.arange(len(self.last_B), device=self.last_B.device)
        inputs_B1D = decoder.last_state(self.context.states_BTD[rows, self.last_B])[:, None]
        return decoder.step(inputs_B1D, 0, self.context, self.last_B, Past([], []))

    def step(self, codes_BK: Tensor, parents_BK: Tensor, level: int, cache: Past) -> tuple[Tensor, Past]:
        inputs_BKD = self.generator.tokens.embed_codes(codes_BK, level - 1)
        past = cache.followed_by(parents_BK)
        return self.generator.decoder.step(inputs_BKD, level, self.context, self.last_B, past)

    def log_probabilities_of(self, items_BX: Tensor) -> Tensor:
        """Teacher-forced `log p(item | history)` in nats of X items of each user, `[B, X]`."""
        generator = self.generator
        states_BXLD = self.states_of_codes(generator.tokens.codes_NL[items_BX])
        levels = [
            generator.log_probabilities_of(states_BXLD[:, :, level], items_BX, level, self._ahead)
            for level in range(generator.levels)
        ]
        return torch.stack(levels).sum(dim=0)

    def states_of_codes(self, codes_BGL: Tensor) -> Tensor:
        """Teacher-forced decoder states `[B, G, L, D]` of G code sequences of each user. They need not be those of an item."""
        positions_BG = self.last_B[:, None].expand(codes_BGL.shape[:2])
        return self.generator.teacher_forced(self.context, positions_BG, codes_BGL)

    def code_log_probabilities(self, hidden_BKD: Tensor, level: int) -> Tensor:
        """Log-probabilities `[B, K, V]` of all codes of a level, including those that lead to no item.

        Raises:
            UserError: the generator has `softmax: legal`, which gives no probability to codes that lead to no item.
        """
        if self.legal_only:
            raise UserError(
                "generator.softmax is legal, so codes that lead to no item have no probability; "
                "free sampling needs a generator trained with softmax: full"
            )
        decoder = self.generator.decoder
        logits_BKV: Tensor = decoder.heads[level](decoder.head_norms[level](hidden_BKD))
        return logits_BKV.float().log_softmax(dim=-1)

    def item_scores(self, items_BK: Tensor) -> Tensor | None:
        """Scores `[B, K]` that the item scorer gives to K items of each user; None without an item scorer."""
        generator = self.generator
        if generator.item_scorer is None:
            return None
        rows = torch.arange(len(self.last_B), device=self.last_B.device)
        newest_BD = self.context.states_BTD[rows, self.last_B]
        return generator.item_scorer.scores(newest_BD, items_BK, generator.tokens)

    def child_log_probabilities(self, hidden_BKD: Tensor, states_BK: Tensor, level: int) -> Children:
        return self.generator.child_log_probabilities(hidden_BKD, states_BK, level, self._ahead)

    @property
    def _ahead(self) -> Callable[[Tensor], Tensor] | None:
        """Maps child states to their lookahead logits; None without lookahead."""
        logits_BE = self.ahead_BE
        if logits_BE is None:
            return None
        # Edge e leads to state e + 1.
        return lambda following_BKM: logits_BE.gather(1, following_BKM.flatten(1) - 1).view(following_BKM.shape)


def bind(generator: Generator, batch: Batch) -> BoundGenerator:
    """Encode a batch of histories once, for beam search, sampling or scoring."""
    states_BTD, prefix = generator.encode(batch)
    last_B, ahead_BE, scorer = batch.lengths_B - 1, None, generator.item_scorer
    if scorer is not None and generator.config.lookahead:
        newest_BD = states_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
        scores_NB = scorer.scores_of_all(newest_BD, generator.tokens, generator.trie.items)
        ahead_BE = ahead_of_all(scores_NB, generator.trie)
    return BoundGenerator(generator, generator.decoder.read_context(states_BTD, prefix, last_B), last_B, ahead_BE)


@torch.no_grad()
def item_log_probabilities(generator: Generator, batch: Batch, items_BX: Tensor) -> Tensor:
    """Teacher-forced `log p(item | history)` in nats of X items per history, `[B, X]`: the plain, slow reference."""
    return bind(generator, batch).log_probabilities_of(items_BX)
