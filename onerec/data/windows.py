"""From sequences to training batches: the windows, their order, and the shape of a batch.

Seed and epoch fix every choice. A resumed run, or a run on more processes, therefore sees the same targets in the same order.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from onerec.data.padding import padded_places

B = TypeVar("B")

POOL_BATCHES = 32  # windows of so many batches are sorted by length together, so that batches need little padding


def moved(batch: B, device: torch.device | str) -> B:
    """A dataclass of tensors on `device`. Its fields may also be such dataclasses, or None."""
    parts = (getattr(batch, field.name) for field in fields(cast(Any, batch)))
    return type(batch)(*(None if part is None else part.to(device) for part in parts))


@dataclass(frozen=True)
class Lifelong:
    """All events before the windows. Each of the R rows is one event, or a cluster that one of its events represents.

    Attributes:
        items_BR: int64 items; padding stands on the right and is item 0.
        features_BRF: int64, codes of features; numeric features are averaged over the cluster.
        amounts_BR2: float32, log2(1 + x) / 4 of two numbers: the events in the cluster, and their mean distance to the window in
            events.
        filled_BR: boolean, false for padding.
    """

    items_BR: Tensor
    features_BRF: Tensor
    amounts_BR2: Tensor
    filled_BR: Tensor

    def to(self, device: torch.device | str) -> "Lifelong":
        """The same on `device`."""
        return moved(self, device)


@dataclass(frozen=True)
class ContextFeatures:
    """What a generator with pathways reads in addition to the items of the windows. Codes are those of `onerec.data.features`.

    Attributes:
        features_BTF: int64, codes of each event's features.
        users_BU: int64, codes of each user's features.
        positive_items_BP: int64, items of positive events before the window, the newest on the right.
        positive_features_BPF: int64, codes of those events' features.
        positive_filled_BP: boolean, false for padding, which stands on the left.
        lifelong: all events before the window; None if the generator does not read them.
    """

    features_BTF: Tensor
    users_BU: Tensor
    positive_items_BP: Tensor
    positive_features_BPF: Tensor
    positive_filled_BP: Tensor
    lifelong: Lifelong | None = None

    def to(self, device: torch.device | str) -> "ContextFeatures":
        """The same on `device`."""
        return moved(self, device)


@dataclass(frozen=True)
class Batch:
    """Windows of one step on one device, padded on the right.

    Attributes:
        items_BT: int64 history items; padding is item 0, and models mask it.
        targets_BT: int64, the item after each position.
        counted_BT: boolean, true where a target adds to the loss.
        lengths_B: int64, number of real positions in each row.
        context_features: what a generator with pathways reads in addition; None if it reads items only.
    """

    items_BT: Tensor
    targets_BT: Tensor
    counted_BT: Tensor
    lengths_B: Tensor
    context_features: ContextFeatures | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`."""
        return moved(self, device)


@dataclass(frozen=True)
class Windows:
    """Training windows as ranges of one flat item array. Nothing is copied before a batch is made.

    Window `w` reads items `starts[w] .. stops[w] - 1` as history. The target of a position is the item after it. Only positions
    from `first_targets[w]` on count. A target in two overlapping windows thus counts once, in the window with the longer history.
    """

    item_index: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    first_targets: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def target_counts(self) -> np.ndarray:
        """Number of targets that count in each window."""
        return self.stops - self.first_targets

    def with_targets(self) -> Self:
        """The windows in which a target counts."""
        kept = self.target_counts > 0
        return replace(self, starts=self.starts[kept], stops=self.stops[kept], first_targets=self.first_targets[kept])

    def batch(self, rows: np.ndarray) -> Batch:
        """The windows in `rows`, padded to the longest of them. Row -1 stands for an empty window."""
        real = rows >= 0
        starts = np.where(real, self.starts[rows], 0)
        lengths = np.where(real, self.stops[rows] - self.starts[rows], 1)
        first = np.where(real, self.first_targets[rows], 1) - starts
        places, inside = padded_places(starts, lengths)
        return Batch(
            items_BT=torch.from_numpy(np.where(inside, self.item_index[places], 0).astype(np.int64)),
            targets_BT=torch.from_numpy(np.where(inside, self.item_index[places + inside], 0).astype(np.int64)),
            counted_BT=torch.from_numpy(inside & (np.arange(inside.shape[1]) >= first[:, None])),
            lengths_B=torch.from_numpy(lengths.astype(np.int64)),
        )


def every_position_windows(item_index: np.ndarray, offsets: np.ndarray, length: int) -> Windows:
    """Windows for causal models, in which every position may be a target.

    A sequence longer than `length` is cut into windows that overlap by half. The last window ends where the sequence ends. Every
    target therefore has at least `length / 2` items of history, unless the sequence has fewer before it.

    Args:
        item_index: items of all training sequences, back to back.
        offsets: `[sequences + 1]`, where each sequence begins.
        length: the most history items in a window; the largest T.
    """
    begins, ends = offsets[:-1], offsets[1:] - 1  # the last item of a sequence is a target only, never history
    stride = max(length // 2, 1)
    positions = ends - begins
    kept = positions > 0
    begins, ends, positions = begins[kept], ends[kept], positions[kept]
    counts = 1 + np.maximum(0, -((length - positions) // stride))
    sequence = np.repeat(np.arange(len(counts)), counts)
    back = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = ends[sequence] - back * stride
    starts = np.maximum(begins[sequence], stops - length)
    earliest = back == counts[sequence] - 1
    first_targets = np.where(earliest, starts, stops - stride)
    return Windows(item_index, starts, stops, first_targets)


def one_target_windows(item_index: np.ndarray, offsets: np.ndarray, length: int) -> Windows:
    """One window per target, for models with a bidirectional context. The target is the item after the window."""
    begins = np.repeat(offsets[:-1], np.diff(offsets))
    stops = np.arange(len(item_index))
    kept = stops > begins
    begins, stops = begins[kept], stops[kept]
    return Windows(item_index, np.maximum(begins, stops - length), stops, stops - 1)


def epoch_batches(windows: Windows, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The rows of every batch of one epoch, in order.

    Windows are shuffled, and pools of `POOL_BATCHES` batches are sorted by length. Then the batches of each pool are shuffled.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(windows))
    lengths = windows.stops - windows.starts
    batches: list[np.ndarray] = []
    for begin in range(0, len(order), batch_size * POOL_BATCHES):
        pool = order[begin : begin + batch_size * POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        cuts = [pool[cut : cut + batch_size] for cut in range(0, len(pool), batch_size)]
        batches.extend(cuts[index] for index in generator.permutation(len(cuts)))
    return batches


def share_of_batch(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    """The rows of a batch for one of `parts` micro-batches or processes. An empty share becomes row -1, an empty window."""
    mine = rows[part::parts]
    return mine if len(mine) else np.array([-1])
