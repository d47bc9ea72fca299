"""Learning from user feedback as in OneRec-V2: what was shown and how long it was watched (arXiv 2508.20900, 3.4 and 3.5).

The system that ran at the time chose the exposures, with probabilities that nobody knows. So GBPO takes the policy itself for
π_old. All rewards are duration-aware, and all exposures come from the training part.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from onerec.data.contract import Dataset
from onerec.data.impressions import parts_of_impressions
from onerec.data.requests import Requests, requests_before
from onerec.data.split import TRAIN, Sequences, items_of, rows_of
from onerec.data.stream import Stream
from onerec.errors import UserError
from onerec.model.generator import Generator
from onerec.run.run import Run
from rl.config.alignment import DurationAwareConfig
from rl.config.run import config_of
from rl.objectives import gbpo
from rl.rewards.duration_aware import duration_aware_advantages, play_events
from rl.rollouts.policy import batch_of, score_codes

# Exposures per batch, within each of which the top share is taken. The paper takes it within a batch of its training stream and
# does not report the size.
BATCH = 4096


@dataclass(frozen=True)
class Exposures:
    """X logged exposures with an advantage, and what the generator reads before each of them.

    Attributes:
        sequences: positive events; those before an exposure are its history.
        stream: the events that a generator with pathways reads. None for a generator that reads positive items alone.
        rows_X: rows of events.parquet.
        users_X: positions in `sequences.user_ids`.
        items_X: int32, the item that was shown, rows of items.parquet.
        advantages_X: int8, +1 or -1.
        ends_X: where the history ends in the sequences, exclusive.
        reading_ends_X: where it ends in the stream, exclusive.
    """

    sequences: Sequences
    stream: Stream | None
    rows_X: np.ndarray
    users_X: np.ndarray
    items_X: np.ndarray
    advantages_X: np.ndarray
    ends_X: np.ndarray
    reading_ends_X: np.ndarray

    def __len__(self) -> int:
        return len(self.rows_X)

    def prompts(self, numbers: np.ndarray) -> Requests:
        """Requests with the histories right before some exposures; the exposures are their targets.

        A history of positive events may be empty while the stream of all events is not.
        """
        users = self.users_X[numbers]
        prompts = requests_before(self.sequences, users, self.ends_X[numbers], self.items_X[numbers])
        if self.stream is None:
            return prompts
        return replace(prompts, stream=self.stream, stream_ends_C=self.reading_ends_X[numbers])

    @property
    def facts(self) -> dict[str, int]:
        """The number of exposures with advantage +1 and of those with -1."""
        return {"rewarded": int((self.advantages_X > 0).sum()), "disliked": int((self.advantages_X < 0).sum())}


def training_exposures(run: Run) -> Exposures:
    """The exposures of the training part that alignment learns from, of users with positive events.

    Raises:
        UserError: see `logged_advantages`; or no exposure has both an advantage and a history.
    """
    config, generator, sequences = config_of(run).align.exposures, run.config.generator, run.sequences
    reads_all = generator.pathways.stream == "all"
    order = run.reading.order_of_all
    places_E = np.flatnonzero(parts_of_impressions(run.dataset, sequences, order, run.config.dataset.split) == TRAIN)
    users_E = np.searchsorted(order.offsets, places_E, side="right") - 1
    advantages_E = logged_advantages(run.dataset, order.rows_E[places_E], users_E, config, config.dislike)
    positives_before = np.concatenate([[0], np.cumsum(order.is_target_E)])
    ends_E = sequences.offsets[users_E] + positives_before[places_E] - positives_before[order.offsets[users_E]]
    begins_E, reading_ends_E = (order.offsets, places_E) if reads_all else (sequences.offsets, ends_E)
    kept_E = (advantages_E != 0) & (reading_ends_E > begins_E[users_E])
    if not kept_E.any():
        raise UserError(
            f"{run.dataset.folder / 'events.parquet'}: none of {len(places_E):,} training exposures has both an advantage and a "
            f"history; lower align.exposures.least ({config.least}), set align.exposures.history=all, or leave exposures out "
            "with align.exposures.weight=0"
        )
    rows_X = order.rows_E[places_E[kept_E]]
    return Exposures(
        sequences,
        run.reading.stream if generator.pathways.in_use else None,
        rows_X,
        users_E[kept_E],
        rows_of(run.dataset.events[run.dataset.spec.events.item][rows_X], items_of(run.dataset)),
        advantages_E[kept_E],
        ends_E[kept_E],
        reading_ends_E[kept_E],
    )


def logged_advantages(
    dataset: Dataset, rows_E: np.ndarray, users_E: np.ndarray, config: DurationAwareConfig, dislike: str | None
) -> np.ndarray:
    """Duration-aware advantages of logged exposures, int8 `[E]`: +1, 0 or -1.

    Args:
        dataset: holds play times and durations.
        rows_E: rows of events.parquet, those of a user in time order. No other rows are read.
        users_E: the user of each row, integers.
        config: of the reward.
        dislike: signal of explicit dislike, or None.

    Raises:
        UserError: dataset.yaml names no play time, no duration or no such signal, or these rows hold no play times or durations.
    """
    plays_E, durations_E, disliked_E = play_events(dataset, rows_E, dislike)
    _check_recorded(dataset, ~np.isnan(plays_E), ~np.isnan(durations_E))
    batches_E = time_batches(dataset, rows_E, BATCH)
    return duration_aware_advantages(users_E, plays_E, durations_E, disliked_E, batches_E, config)


def _check_recorded(dataset: Dataset, has_play_E: np.ndarray, has_duration_E: np.ndarray) -> None:
    columns, where = dataset.spec.events, dataset.folder / "events.parquet"
    why = "and the duration-aware reward learns from training events only; leave it out with align.exposures.weight=0"
    for key, column, what, has_E in (
        ("play_time", columns.play_time, "empty", has_play_E),
        ("duration", columns.duration, "empty or 0", has_duration_E),
    ):
        if not has_E.any():
            raise UserError(
                f'{where}, column "{column}" (events.{key}): {what} in all {len(has_E):,} training events, {why}'
            )
    if not (has_play_E & has_duration_E).any():
        raise UserError(
            f'{where}, columns "{columns.play_time}" and "{columns.duration}": no training event has both, {why}'
        )


def time_batches(dataset: Dataset, rows_E: np.ndarray, size: int) -> np.ndarray:
    """The batch of each event, int64 `[E]`, counted from 0: `size` events in time order each, the last with the remainder.

    Batches mix all users. Events without a time come first. A log without times keeps the order of the file.
    """
    order_E = np.argsort(rows_E)
    if dataset.spec.events.time is not None:
        times_E = dataset.events[dataset.spec.events.time][rows_E].to_physical().cast(pl.Float64)
        order_E = np.lexsort((rows_E, times_E.fill_null(-np.inf).to_numpy()))
    ranks_E = np.empty(len(rows_E), dtype=np.int64)
    ranks_E[order_E] = np.arange(len(rows_E))
    return np.minimum(ranks_E // size, max(len(rows_E) // size - 1, 0))


def exposure_loss(
    policy: Generator, exposures: Exposures, numbers: np.ndarray, free: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """GBPO on the codes of some exposures: the loss, a scalar with a gradient, and its figures.

    With advantage +1, the gradient is that of next-code training. With -1, it is opposite, and each code's is scaled by
    min(1, π / (1 - π)).

    Args:
        policy: in train or eval mode, as the caller wants it scored.
        exposures: all of them.
        numbers: the exposures to learn from.
        free: score codes among all codes of a level, rather than among those that lead to an item.

    Returns:
        the loss, and figures: `exposure_loss`; `exposure_rewarded` and `exposure_disliked`, the shares with advantage +1 and -1;
        `exposure_entropy`, summed over the codes of an item; `exposure_log_probability/rewarded` and `/disliked`, means over
        items, left out where there are none.
    """
    batch, codes_NL = batch_of(policy, exposures.prompts(numbers)), policy.tokens.codes_NL
    items_B = torch.from_numpy(exposures.items_X[numbers].astype(np.int64)).to(codes_NL.device)
    advantages_B = torch.from_numpy(exposures.advantages_X[numbers].astype(np.float32)).to(codes_NL.device)
    scored = score_codes(policy, batch, codes_NL[items_B][:, None], free)
    loss = gbpo(scored.log_probabilities_BGL, advantages_B[:, None]).loss
    log_pi_B = scored.log_probabilities_BGL.detach().sum(dim=-1)[:, 0]
    figures = {"exposure_loss": loss.detach(), "exposure_entropy": scored.entropies_BGL.detach().sum(dim=-1).mean()}
    for name, is_B in (("rewarded", advantages_B > 0), ("disliked", advantages_B < 0)):
        figures[f"exposure_{name}"] = is_B.float().mean()
        if is_B.any():
            figures[f"exposure_log_probability/{name}"] = log_pi_B[is_B].mean()
    return loss, figures
