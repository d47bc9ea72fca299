"""From histories to recommended items: batches of users through the generator's beam search."""

from dataclasses import dataclass

import numpy as np
import torch

from onerec.data.stream import Readings, padded_readings
from onerec.data.windows import padded_histories
from onerec.decode.beam_search import beam_search
from onerec.model.bound_generator import BoundGenerator, bind
from onerec.model.generator import Generator


def padded_sets(history_items: np.ndarray, history_offsets: np.ndarray, cases: np.ndarray) -> torch.Tensor:
    """Whole histories of some cases as int64 `[B, S]`, padded with -1: what exclusion needs, however long they are."""
    starts, lengths = history_offsets[cases], np.diff(history_offsets)[cases]
    steps = np.arange(max(int(lengths.max()), 1))
    inside = steps < lengths[:, None]
    places = np.where(inside, starts[:, None] + steps, 0)
    return torch.from_numpy(np.where(inside, history_items[places], -1).astype(np.int64))


@dataclass(frozen=True)
class Proposals:
    """The beams of some histories.

    Attributes:
        items_CK: int32, best first, -1 where there are no more.
        log_probabilities_CK: float32, in nats, -inf where there is no item.
        item_scores_CK: float32, of the item scorer, 0 where there is no item; None where the generator has no item scorer.
    """

    items_CK: np.ndarray
    log_probabilities_CK: np.ndarray
    item_scores_CK: np.ndarray | None


@dataclass
class GeneratorRecommender:
    """Recommend with a generator.

    Attributes:
        generator: a trained generator on the device to run on.
        beam_width: beams per user and level; at least the number of items asked for.
        batch_size: users decoded together; memory grows with batch_size x beam_width.
    """

    generator: Generator
    beam_width: int
    batch_size: int = 256

    def recommend(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: Readings | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most probable items of each history.

        Args:
            history_items: item numbers of all histories, oldest first, back to back; no history may be empty.
            history_offsets: `[C + 1]`, where each history begins.
            k: items per list.
            exclude_seen: leave out every item of the history, also those before the model's window.
            readings: what a generator with pathways reads in place of the history's items. None: these items, of which and of
                whose user nothing else is known.

        Returns:
            items int32 `[C, k]` (-1 where there are no more) and their log-probabilities in nats, float32 `[C, k]`.
        """
        made = self.propose(history_items, history_offsets, k, exclude_seen, readings)
        return made.items_CK, made.log_probabilities_CK

    @torch.inference_mode()
    def propose(
        self,
        history_items: np.ndarray,
        history_offsets: np.ndarray,
        k: int,
        exclude_seen: bool,
        readings: Readings | None = None,
        also_CX: np.ndarray | None = None,
    ) -> Proposals:
        """The k most probable items of each history, with all that the generator says about them.

        Args:
            also_CX: further items to judge for each history, -1 where there are fewer. Those that are not among the k follow
                behind them, in their order.
        """
        further = 0 if also_CX is None else also_CX.shape[1]
        generator, shape = self.generator.eval(), (len(history_offsets) - 1, k + further)
        device = generator.decoder.level_embeddings.device
        items_CK, scores_CK = np.full(shape, -1, dtype=np.int32), np.full(shape, -np.inf, dtype=np.float32)
        item_scores_CK = None if generator.item_scorer is None else np.zeros(shape, dtype=np.float32)
        length, older = generator.config.history_length, generator.config.pathways.positive_length
        batches = (
            padded_histories(history_items, history_offsets, length, self.batch_size)
            if readings is None
            else padded_readings(readings, length, older, self.batch_size)
        )
        for cases, batch in batches:
            seen = padded_sets(history_items, history_offsets, cases).to(device) if exclude_seen else None
            bound = bind(generator, batch.to(device))
            beams = beam_search(bound, generator.trie, beam_width=max(self.beam_width, k), excluded_BS=seen)
            found_BK = beams.items_BK[:, :k]
            log_probabilities_BK = beams.log_probabilities_BK[:, :k]
            if also_CX is not None:
                found_BK, log_probabilities_BK = _with_further(
                    bound, found_BK, log_probabilities_BK, torch.from_numpy(also_CX[cases]).to(device)
                )
            found = found_BK.shape[1]
            items_CK[cases, :found] = found_BK.cpu().numpy()
            scores_CK[cases, :found] = log_probabilities_BK.cpu().numpy()
            scored_BK = bound.item_scores(found_BK.clamp(min=0))
            if item_scores_CK is not None and scored_BK is not None:
                item_scores_CK[cases, :found] = scored_BK.masked_fill(found_BK < 0, 0).cpu().numpy()
        return Proposals(items_CK, scores_CK, item_scores_CK)


def _with_further(
    bound: BoundGenerator, items_BK: torch.Tensor, scores_BK: torch.Tensor, also_BX: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The beam and, behind it, the further items that it does not hold, with their log-probabilities."""
    again_BX = (also_BX < 0) | (also_BX[:, :, None] == items_BK[:, None]).any(dim=-1)
    also_scores_BX = bound.log_probabilities_of(also_BX.clamp(min=0).long())
    items = torch.cat([items_BK, also_BX.long().masked_fill(again_BX, -1)], dim=1)
    return items, torch.cat([scores_BK, also_scores_BX.masked_fill(again_BX, -torch.inf)], dim=1)
