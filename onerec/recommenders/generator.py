"""From requests to lists: batches of users through the generator's beam search."""

from dataclasses import dataclass

import numpy as np
import torch

from onerec.data.candidates import ITEM_SCORE, Candidates, Lists
from onerec.data.requests import Requests
from onerec.decode.beam_search import beam_search
from onerec.model.bound_generator import BoundGenerator, bind
from onerec.model.generator import Generator
from onerec.recommenders.content_knn import ContentKNN


@dataclass
class GeneratorRecommender:
    """Recommend with a generator.

    Attributes:
        generator: a trained generator on the device to run on.
        beam_width: beams per user and level; a longer list widens the beam to its length.
        batch_size: users decoded together; memory grows with batch_size x beam_width.
    """

    generator: Generator
    beam_width: int
    batch_size: int = 256

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Candidates:
        """The k most probable items of each request; scores are log-probabilities in nats.

        Requests without a stream are read by their items alone. A generator with an item scorer gives its scores as the
        feature `item_score`.
        """
        return self.judge(requests, k, None, exclude_seen=exclude_seen)

    @torch.inference_mode()
    def judge(self, requests: Requests, k: int, others: Lists | None, *, exclude_seen: bool) -> Candidates:
        """The k most probable items of each request and, behind them, other items with their log-probabilities.

        Args:
            requests: whose histories are read.
            k: items of the beam.
            others: items to judge as well, X for each request. Those that the beam holds already are left out.
            exclude_seen: keep items of the history out of the beam.

        Returns:
            candidates `[C, k + X]`.
        """
        generator, wide = self.generator.eval(), k if others is None else k + others.items_CK.shape[1]
        device = generator.decoder.level_embeddings.device
        found = Candidates.empty(len(requests), wide)
        item_scores_CK = None if generator.item_scorer is None else np.zeros((len(requests), wide), dtype=np.float32)
        config = generator.config
        for rows, batch in requests.batches(config.history_length, config.pathways.positive_length, self.batch_size):
            seen = requests.seen(rows).to(device) if exclude_seen else None
            bound = bind(generator, batch.to(device))
            beams = beam_search(bound, generator.trie, beam_width=max(self.beam_width, k), excluded_BS=seen)
            items_BK, log_probabilities_BK = beams.items_BK[:, :k], beams.log_probabilities_BK[:, :k]
            if others is not None:
                others_BX = torch.from_numpy(others.items_CK[rows]).to(device)
                items_BK, log_probabilities_BK = _with_others(bound, items_BK, log_probabilities_BK, others_BX)
            count = items_BK.shape[1]
            found.items_CK[rows, :count] = items_BK.cpu().numpy()
            found.scores_CK[rows, :count] = log_probabilities_BK.cpu().numpy()
            scored_BK = bound.item_scores(items_BK.clamp(min=0))
            if item_scores_CK is not None and scored_BK is not None:
                item_scores_CK[rows, :count] = scored_BK.masked_fill(items_BK < 0, 0).cpu().numpy()
        features = {} if item_scores_CK is None else {ITEM_SCORE: item_scores_CK}
        return Candidates(found.items_CK, found.scores_CK, features)


@dataclass
class GeneratorWithNewItems:
    """Candidates for a scorer: the generator's beam and, behind it, items that training never showed.

    The generator never had a new item for a target and finds all of them improbable. Content tells which ones resemble the
    history, and the scorer decides.

    Attributes:
        generator: its beam.
        new_items: finds new items by content.
        new_item_count: so many of the candidates are new items.
    """

    generator: GeneratorRecommender
    new_items: ContentKNN
    new_item_count: int

    def recommend(self, requests: Requests, k: int, *, exclude_seen: bool) -> Candidates:
        """`k - new_item_count` items of the beam and `new_item_count` new ones; scores are log-probabilities in nats."""
        new = self.new_items.recommend(requests, self.new_item_count, exclude_seen=exclude_seen)
        return self.generator.judge(requests, k - self.new_item_count, new, exclude_seen=exclude_seen)


def _with_others(
    bound: BoundGenerator, items_BK: torch.Tensor, scores_BK: torch.Tensor, others_BX: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The beam and, behind it, the other items that it does not hold, with their log-probabilities."""
    again_BX = (others_BX < 0) | (others_BX[:, :, None] == items_BK[:, None]).any(dim=-1)
    others_scores_BX = bound.log_probabilities_of(others_BX.clamp(min=0).long())
    items = torch.cat([items_BK, others_BX.long().masked_fill(again_BX, -1)], dim=1)
    return items, torch.cat([scores_BK, others_scores_BX.masked_fill(again_BX, -torch.inf)], dim=1)
