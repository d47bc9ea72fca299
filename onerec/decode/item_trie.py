"""All legal semantic IDs, stored as a trie of flat tensors.

The layout is compressed sparse rows with one simplification. States are numbered breadth first, and the root is state 0.
Exactly one edge enters every other state, so edge `e` always leads to state `e + 1`, and next states need not be stored. The
edges `offsets[s] .. offsets[s + 1] - 1` lead to the children of state `s`. A state of the last level is an item.

Decoding against flat tensors instead of Python dictionaries is an idea of STATIC (arXiv 2602.22647). The layout is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onerec.errors import UserError


@dataclass(frozen=True)
class ItemTrie:
    """Every legal code sequence of a catalogue. Build it with `ItemTrie.from_codes`.

    Attributes:
        offsets: int64 `[interior states + 1]`, the first edge of each interior state.
        padded_codes: int32 `[edges + widest branch]`, the code of each edge, ascending within a state, followed by zeros.
        settled: boolean `[interior states]`, whether only one item lies below a state.
        items: int64 `[N]`, the item that each edge of the last level leads to, in edge order.
        states_NL: int64 `[N, L]`, the state on an item's path before the code of each level.
        child_places_NL: int64 `[N, L]`, the place of an item's code among the children of that state.
        level_sizes: codebook size V of each level.
        branches: for each level, the largest number of children of any state (M).
    """

    offsets: Tensor
    padded_codes: Tensor
    settled: Tensor
    items: Tensor
    states_NL: Tensor
    child_places_NL: Tensor
    level_sizes: tuple[int, ...]
    branches: tuple[int, ...]

    @classmethod
    def from_codes(cls, codes_NL: np.ndarray, level_sizes: Sequence[int]) -> "ItemTrie":
        """Build the trie with array operations only: one sort, then one comparison of neighbouring rows per level.

        Args:
            codes_NL: one row of codes per item; row `n` belongs to item `n`.
            level_sizes: codebook size of each level.

        Raises:
            UserError: a code lies outside its level, or two items share an ID (the message names both rows).
        """
        codes_NL = np.asarray(codes_NL, dtype=np.int64)
        _check_codes(codes_NL, level_sizes)
        item_count, levels = codes_NL.shape
        order = np.lexsort(codes_NL.T[::-1])
        sorted_NL = codes_NL[order]
        new_prefix = np.zeros(item_count, dtype=bool)
        new_prefix[0] = True
        states_NL = np.zeros((item_count, levels), dtype=np.int64)
        edge_codes, child_counts, branches = [], [], []
        settled = [np.array([item_count == 1])]
        parent = np.zeros(item_count, dtype=np.int64)  # state of each sorted row before this level
        parents, first_state = 1, 0
        for level in range(levels):
            states_NL[order, level] = parent
            new_prefix[1:] |= sorted_NL[1:, level] != sorted_NL[:-1, level]
            starts = np.flatnonzero(new_prefix)
            edge_codes.append(sorted_NL[starts, level])
            counts = np.bincount(parent[starts] - first_state, minlength=parents)
            child_counts.append(counts)
            branches.append(int(counts.max()))
            settled.append(np.diff(starts, append=item_count) == 1)
            first_state += parents
            parents = len(starts)
            parent = first_state + np.cumsum(new_prefix) - 1
        if parents != item_count:
            row = int(np.flatnonzero(~new_prefix)[0])
            raise UserError(
                f"items in rows {order[row - 1]} and {order[row]} share the semantic ID {sorted_NL[row].tolist()}, but every "
                "item needs its own; `onerec tokenize` makes IDs unique"
            )
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(child_counts))])
        following_NL = np.empty_like(states_NL)
        following_NL[:, :-1] = states_NL[:, 1:]
        following_NL[order, -1] = parent
        return cls(
            offsets=torch.from_numpy(offsets),
            padded_codes=torch.from_numpy(
                np.concatenate([*edge_codes, np.zeros(max(branches), dtype=np.int64)]).astype(np.int32)
            ),
            settled=torch.from_numpy(np.concatenate(settled[:-1])),
            items=torch.from_numpy(order),
            states_NL=torch.from_numpy(states_NL),
            child_places_NL=torch.from_numpy(following_NL - 1 - offsets[states_NL]),
            level_sizes=tuple(int(size) for size in level_sizes),
            branches=tuple(branches),
        )

    @property
    def levels(self) -> int:
        """Number of codes in an ID, L."""
        return len(self.level_sizes)

    @property
    def item_count(self) -> int:
        """Number of items in the catalogue, N."""
        return len(self.items)

    def to(self, device: torch.device | str) -> "ItemTrie":
        """The same trie with its tensors on `device`."""
        parts = (getattr(self, part.name) for part in fields(self))
        moved: list[Any] = [part.to(device) if isinstance(part, Tensor) else part for part in parts]
        return ItemTrie(*moved)

    @property
    def codes(self) -> Tensor:
        """int32 `[edges]`, the code of each edge."""
        return self.padded_codes[: int(self.padded_codes.shape[0]) - max(self.branches)]

    def edges(self, states: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """The edges out of states on one level, padded to that level's widest branch M.

        The edges of a state are neighbours, so this copies M neighbours per state. The copy of a narrower branch ends with
        edges of other states, where `legal` is false. Edge `first + m` leads to state `first + m + 1`.

        Args:
            states: int64 `[...]`, states that are all on `level`.

        Returns:
            The codes `[..., M]`, which all lie within the codebook, legal or not. The first edge of each state, int64 `[...]`.
            A boolean `[..., M]` that is true for real children.
        """
        starts = self.offsets[states]
        branch, size = self.branches[level], self.level_sizes[level]
        windows = self.padded_codes.unfold(0, branch, 1)
        codes = windows.index_select(0, starts.flatten()).view(*states.shape, branch)
        if max(self.level_sizes[level:]) > size:  # neighbours may belong to a level with more codes
            codes = codes.clamp(max=size - 1)
        # A row of the mask is as many ones as there are children, then zeros. Copying it is several times faster than comparing.
        ones_then_zeros = torch.arange(2 * branch, device=states.device) < branch
        counts = self.offsets[states + 1] - starts
        legal = ones_then_zeros.unfold(0, branch, 1).index_select(0, branch - counts.flatten())
        return codes, starts, legal.view(*states.shape, branch)

    def leaves_of(self, items: Tensor) -> Tensor:
        """Places of items in `self.items`, which has the order of the last level's edges."""
        edges = self.offsets[self.states_NL[items, -1]] + self.child_places_NL[items, -1]
        return edges - (len(self.codes) - self.item_count)

    def parents(self) -> list[Tensor]:
        """For each level int64 `[edges of the level]`: the state that each edge leaves, numbered within its own level."""
        counts, first, states, found = self.offsets.diff(), 0, 1, []
        for _ in range(self.levels):
            of_level = torch.arange(states, device=counts.device)
            found.append(torch.repeat_interleave(of_level, counts[first : first + states]))
            first, states = first + states, len(found[-1])
        return found

    def items_of(self, leaves: Tensor) -> Tensor:
        """Item numbers of states of the last level."""
        return self.items[leaves - (len(self.codes) - self.item_count) - 1]

    def items_with_codes(self, codes: Tensor) -> Tensor:
        """The item that has these codes.

        Args:
            codes: integers `[..., L]`, legal or not.

        Returns:
            int64 `[...]`, -1 where no item has the codes.
        """
        states = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device)
        found = torch.ones_like(states, dtype=torch.bool)
        for level, size in enumerate(self.level_sizes):
            wanted = codes[..., level].long()
            keys = states * max(self.level_sizes) + wanted
            edges = torch.searchsorted(self._edge_keys, keys).clamp(max=len(self._edge_keys) - 1)
            found = found & (wanted >= 0) & (wanted < size) & (self._edge_keys[edges] == keys)
            states = torch.where(found, edges + 1, 0)
        return torch.where(found, self.items_of(torch.where(found, states, len(self.codes))), -1)

    @cached_property
    def _edge_keys(self) -> Tensor:
        """int64 `[edges]`, ascending: one number for the state that each edge leaves and the edge's code."""
        states = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return torch.repeat_interleave(states, self.offsets.diff()) * max(self.level_sizes) + self.codes

    def paths_of(self, items: Tensor) -> Tensor:
        """The edges on the paths to items `[...]`, int64 `[..., L]`."""
        return self.offsets[self.states_NL[items]] + self.child_places_NL[items]

    @cached_property
    def items_behind(self) -> Tensor:
        """int64 `[edges]`, the number of items that each edge leads to."""
        every_N = torch.arange(self.item_count, device=self.items.device)
        return self.paths_of(every_N).flatten().bincount(minlength=len(self.codes))


def _check_codes(codes_NL: np.ndarray, level_sizes: Sequence[int]) -> None:
    if codes_NL.ndim != 2 or codes_NL.shape[0] == 0 or codes_NL.shape[1] != len(level_sizes):
        raise UserError(
            f"semantic IDs must be a table of items x {len(level_sizes)} codes, not of shape {codes_NL.shape}"
        )
    outside = (codes_NL < 0) | (codes_NL >= np.asarray(level_sizes))
    if outside.any():
        row, level = (int(index) for index in np.argwhere(outside)[0])
        raise UserError(
            f"item row {row}: code {codes_NL[row, level]} of level {level + 1} lies outside 0..{level_sizes[level] - 1}"
        )
