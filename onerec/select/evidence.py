"""What is known about a proposed item beside a history: the generator's probability, co-occurrence, likeness.

The generator sees codes, so what it knows about an item is what the item's code neighbours share. Counts of what followed
what, and likeness to single items of the history, are about the very item. Every feature is made from training events alone.
"""

from dataclasses import dataclass, field

import numpy as np

from onerec.baselines.item_knn import ItemKNN
from onerec.decode.recommend import Proposals
from tokenizer.vectors import normalise_rows

HISTORY_EVENTS = 50  # the newest events of a history that likeness looks at
ELEMENTS = 1 << 23  # similarities and gathered vectors of a chunk of histories; 32 MiB of float32
FLOOR = 0.01  # of the median positive co-occurrence: what stands for none under the logarithm


@dataclass
class Evidence:
    """Features of proposed items.

    Per block of item vectors two features, both cosines: with the history's mean, its newest event weighing 1, the one before
    `decay` and so on, and the largest with any single event.

    Co-occurrence speaks with two voices, a logarithm and a square root: that anything at all speaks for an item matters, and so
    does how strongly. What came right after the newest event in training is told apart from what came near any event.

    Attributes:
        item_scores: whether the generator scores whole items as well; its score is then one more feature.
        co_occurrence: counted on the training part.
        directly_after: the same of what came right after the newest event, see `directly_after`.
        vectors: blocks of item vectors `[N, D]` by name; rows of zeros are like nothing.
        decay: see above, in (0, 1].
    """

    item_scores: bool
    co_occurrence: ItemKNN
    directly_after: ItemKNN
    vectors: dict[str, np.ndarray]
    decay: float
    _unit: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._unit = {name: normalise_rows(block_ND) for name, block_ND in self.vectors.items()}

    @property
    def names(self) -> list[str]:
        """What the features are called, in their order; `log_probability` is the first."""
        likeness = [f"{name}_{how}" for name in self._unit for how in ("mean", "most")]
        generated = ["log_probability", "item_score"] if self.item_scores else ["log_probability"]
        together = ["co_occurrence", "co_occurrence_root", "never_together", "directly_after"]
        return [*generated, *together, *likeness]

    def features(self, history_items: np.ndarray, history_offsets: np.ndarray, proposals: Proposals) -> np.ndarray:
        """Features float32 `[C, K, F]` of proposed items, 0 where there is none (-1).

        Args:
            history_items: item numbers of all histories, oldest first, back to back.
            history_offsets: `[C + 1]`, where each history begins.
            proposals: the generator's beams for them.
        """
        items_CK = proposals.items_CK
        found_CK = items_CK >= 0
        together_CK = self.co_occurrence.scores_of(history_items, history_offsets, items_CK)
        after_CK = self.directly_after.scores_of(history_items, history_offsets, items_CK)
        columns = [np.where(found_CK, proposals.log_probabilities_CK, 0)]
        if self.item_scores:
            assert proposals.item_scores_CK is not None
            columns.append(proposals.item_scores_CK)
        columns += [_logarithm(together_CK, self.co_occurrence), np.sqrt(together_CK), together_CK <= 0]
        columns.append(_logarithm(after_CK, self.directly_after))
        for unit_ND in self._unit.values():
            columns += self._likeness(unit_ND, history_items, history_offsets, np.maximum(items_CK, 0))
        return np.stack([np.where(found_CK, column, 0).astype(np.float32) for column in columns], axis=-1)

    def _likeness(
        self, unit_ND: np.ndarray, history_items: np.ndarray, history_offsets: np.ndarray, items_CK: np.ndarray
    ) -> list[np.ndarray]:
        """Cosine of each item with the mean of its history, and the largest with one of its events, `[C, K]` each."""
        lengths_C = np.minimum(np.diff(history_offsets), HISTORY_EVENTS)
        mean_CK, most_CK = np.empty(items_CK.shape, np.float32), np.empty(items_CK.shape, np.float32)
        width = items_CK.shape[1] * (unit_ND.shape[1] + HISTORY_EVENTS)
        order_C = np.argsort(lengths_C, kind="stable")  # histories of like length share a chunk
        for start in range(0, len(order_C), max(1, ELEMENTS // width)):
            cases = order_C[start : start + max(1, ELEMENTS // width)]
            ages_T = np.arange(int(lengths_C[cases].max()))
            inside_RT = ages_T < lengths_C[cases][:, None]
            places_RT = np.where(inside_RT, history_offsets[cases + 1][:, None] - 1 - ages_T, 0)
            history_RTD = unit_ND[history_items[places_RT]]
            cosines_RKT = np.matmul(unit_ND[items_CK[cases]], history_RTD.transpose(0, 2, 1))
            most_CK[cases] = np.where(inside_RT[:, None], cosines_RKT, -1).max(axis=-1)
            weights_RT = np.where(inside_RT, self.decay**ages_T, 0)
            profile_RD = normalise_rows(np.einsum("rt,rtd->rd", weights_RT, history_RTD).astype(np.float32), 0.0)
            mean_CK[cases] = np.matmul(unit_ND[items_CK[cases]], profile_RD[..., None])[..., 0]
        return [mean_CK, most_CK]


def directly_after(item_index: np.ndarray, offsets: np.ndarray, item_count: int) -> ItemKNN:
    """What came right after an event in training, asked of the newest event of a history alone."""
    newest_only = 1e-9  # of two events the older one weighs next to nothing, and ItemKNN leaves it out
    return ItemKNN(window=1, decay=newest_only, session_weight=0).fit(item_index, offsets, item_count)


def _logarithm(scores_CK: np.ndarray, counted: ItemKNN) -> np.ndarray:
    """Logarithm of scores, with a floor for none that goes with their scale."""
    strengths = counted.similarity_NN.data
    floor = FLOOR * float(np.median(strengths)) if len(strengths) else 1.0
    logarithm: np.ndarray = np.log(scores_CK + floor)
    return logarithm
