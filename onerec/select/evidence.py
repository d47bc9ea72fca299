"""What is known about a proposed item beside a history: the generator's probability, co-occurrence, likeness.

The generator sees codes, so what it knows about an item is what the item's code neighbours share. Counts of what followed
what, and likeness to single items of the history, are about the very item. Every feature is made from training events alone.
"""

from dataclasses import dataclass, field

import numpy as np

from onerec.baselines.content_knn import HISTORY_EVENTS, ContentKNN, history_means
from onerec.baselines.item_knn import ItemKNN
from onerec.decode.recommend import Proposals
from tokenizer.common.vectors import normalise_rows

ELEMENTS = 1 << 23  # similarities and gathered vectors of a chunk of histories; 32 MiB of float32
FLOOR = 0.01  # of the median positive co-occurrence: what stands for none under the logarithm


@dataclass
class Evidence:
    """Features of proposed items.

    Per block of item vectors two features, both cosines: with the history's mean, its newest event weighing 1, the one before
    `decay` and so on, and the largest with any single event.

    Co-occurrence speaks with two voices, a logarithm and a square root: that anything at all speaks for an item matters, and so
    does how strongly. What came right after the newest event in training is told apart from what came near any event.

    Items that training never showed are a case of their own: nothing was counted for them, and the generator, which never had
    one for a target, finds them all improbable. With `new_items`, likeness of content has weights of its own for them.

    Attributes:
        item_scores: whether the generator scores whole items as well; its score is then one more feature.
        co_occurrence: counted on the training part.
        directly_after: the same of what came right after the newest event, see `directly_after`.
        vectors: blocks of item vectors `[N, D]` by name; rows of zeros are like nothing.
        decay: see above, in (0, 1].
        new_items: finds the new items that are most like a history; None where there are none, or they are not to be told apart.
        new_items_proposed: how many of those are proposed beside the beam.
    """

    item_scores: bool
    co_occurrence: ItemKNN
    directly_after: ItemKNN
    vectors: dict[str, np.ndarray]
    decay: float
    new_items: ContentKNN | None = None
    new_items_proposed: int = 0
    _unit: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._unit = {name: normalise_rows(block_ND) for name, block_ND in self.vectors.items()}

    def is_new(self, items: np.ndarray) -> np.ndarray:
        """Which items `[...]` are new in the sense above; a padded item (-1) is not."""
        if self.new_items is None:
            return np.zeros(items.shape, bool)
        return np.isin(items, self.new_items.candidates_M)

    @property
    def names(self) -> list[str]:
        """What the features are called, in their order; `log_probability` is the first."""
        likeness = [f"{name}_{how}" for name in self._unit for how in ("mean", "most")]
        generated = ["log_probability", "item_score"] if self.item_scores else ["log_probability"]
        together = ["co_occurrence", "co_occurrence_root", "never_together", "directly_after"]
        new = ["new", "new_content_mean", "new_content_most"] if self.new_items is not None else []
        return [*generated, *together, *likeness, *new]

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
        if self.new_items is not None:
            new_CK = self.is_new(items_CK)
            content = [columns[self.names.index(name)] for name in ("content_mean", "content_most")]
            columns += [new_CK, *(new_CK * column for column in content)]
        return np.stack([np.where(found_CK, column, 0).astype(np.float32) for column in columns], axis=-1)

    def _likeness(
        self, unit_ND: np.ndarray, history_items: np.ndarray, history_offsets: np.ndarray, items_CK: np.ndarray
    ) -> list[np.ndarray]:
        """Cosine of each item with the mean of its history, and the largest with one of its events, `[C, K]` each."""
        lengths_C = np.minimum(np.diff(history_offsets), HISTORY_EVENTS)
        mean_CK, most_CK = np.empty(items_CK.shape, np.float32), np.empty(items_CK.shape, np.float32)
        width = items_CK.shape[1] * (unit_ND.shape[1] + HISTORY_EVENTS)
        means_CD = history_means(unit_ND, history_items, history_offsets, self.decay)
        order_C = np.argsort(lengths_C, kind="stable")  # histories of like length share a chunk
        for start in range(0, len(order_C), max(1, ELEMENTS // width)):
            cases = order_C[start : start + max(1, ELEMENTS // width)]
            ages_T = np.arange(int(lengths_C[cases].max()))
            inside_RT = ages_T < lengths_C[cases][:, None]
            places_RT = np.where(inside_RT, history_offsets[cases + 1][:, None] - 1 - ages_T, 0)
            history_RTD = unit_ND[history_items[places_RT]]
            cosines_RKT = np.matmul(unit_ND[items_CK[cases]], history_RTD.transpose(0, 2, 1))
            most_CK[cases] = np.where(inside_RT[:, None], cosines_RKT, -1).max(axis=-1)
            mean_CK[cases] = np.matmul(unit_ND[items_CK[cases]], means_CD[cases][..., None])[..., 0]
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
