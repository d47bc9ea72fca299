"""Forbidden edges against a plain loop over items."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from onerec.decode.exclusion import ForbiddenEdges
from onerec.decode.item_trie import ItemTrie


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 12))
def test_an_edge_is_forbidden_where_all_items_behind_it_are_excluded(seed: int, levels: int, excluded: int) -> None:
    draw = np.random.default_rng(seed)
    codes = draw.permutation(np.unique(draw.integers(0, 3, size=(draw.integers(1, 20), levels)), axis=0))
    trie = ItemTrie.from_codes(codes, [3] * levels)
    excluded_BS = torch.from_numpy(draw.integers(-1, len(codes), size=(3, excluded)))
    forbidden = ForbiddenEdges.of_items(trie, excluded_BS)
    edges = trie.paths_of(torch.arange(len(codes)))
    for user, gone in enumerate(excluded_BS.tolist()):
        for level in range(levels):
            found = forbidden.contain(edges[None, :, level].expand(3, -1), level)[user]
            for item, row in enumerate(codes[:, : level + 1].tolist()):
                behind = {other for other in range(len(codes)) if codes[other, : level + 1].tolist() == row}
                assert bool(found[item]) == (behind <= set(gone))
                assert int(trie.items_behind[edges[item, level]]) == len(behind)
