"""The trie against a dictionary of prefixes, on random catalogues."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onerec.decode.item_trie import ItemTrie
from onerec.errors import UserError


def random_codes(seed: int, level_sizes: tuple[int, ...], rows: int) -> np.ndarray:
    """Distinct random code sequences in random order."""
    generator = np.random.default_rng(seed)
    codes = np.unique(generator.integers(0, level_sizes, size=(rows, len(level_sizes))), axis=0)
    return generator.permutation(codes)


catalogues = st.builds(
    random_codes,
    seed=st.integers(0, 10_000),
    level_sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    rows=st.integers(1, 60),
)


def sizes_of(codes_NL: np.ndarray) -> list[int]:
    return [int(column.max()) + 1 for column in codes_NL.T]


@settings(max_examples=100, deadline=None)
@given(catalogues)
def test_children_are_exactly_the_legal_continuations(codes_NL: np.ndarray) -> None:
    trie = ItemTrie.from_codes(codes_NL, sizes_of(codes_NL))
    for item, codes in enumerate(codes_NL):
        for level in range(trie.levels):
            state = trie.states_NL[item, level]
            found, (first,), legal = trie.edges(state[None], level)
            prefix = codes_NL[(codes_NL[:, :level] == codes[:level]).all(axis=1)]
            assert found[legal].tolist() == sorted(set(prefix[:, level].tolist()))
            assert found.min() >= 0 and found.max() < trie.level_sizes[level]  # padding as well
            place = trie.child_places_NL[item, level]
            assert int(found[0, place]) == int(codes[level])
            after = first + place + 1
            if level + 1 < trie.levels:
                assert after == trie.states_NL[item, level + 1]
            else:
                assert trie.items_of(after) == item


@settings(max_examples=50, deadline=None)
@given(catalogues)
def test_size_and_branches(codes_NL: np.ndarray) -> None:
    trie = ItemTrie.from_codes(codes_NL, sizes_of(codes_NL))
    prefixes = [len({tuple(row[:depth]) for row in codes_NL.tolist()}) for depth in range(1, trie.levels + 1)]
    assert len(trie.codes) == sum(prefixes)
    assert trie.item_count == len(codes_NL)
    assert int(trie.offsets[-1]) == len(trie.codes)


def test_colliding_items_are_named() -> None:
    with pytest.raises(UserError, match=r"rows 0 and 2 share the semantic ID \[1, 1\]"):
        ItemTrie.from_codes(np.array([[1, 1], [0, 1], [1, 1]]), [2, 2])


def test_code_outside_its_level_is_named() -> None:
    with pytest.raises(UserError, match=r"item row 1: code 7 of level 2 lies outside 0\.\.3"):
        ItemTrie.from_codes(np.array([[0, 1], [0, 7]]), [2, 4])


def test_a_million_items_build_in_bounded_memory() -> None:
    generator = np.random.default_rng(0)
    packed = generator.choice(256**3, size=1_000_000, replace=False)
    codes_NL = np.stack([packed // 256**2, packed // 256 % 256, packed % 256], axis=1)
    trie = ItemTrie.from_codes(codes_NL, [256, 256, 256])
    probe = generator.integers(len(codes_NL), size=1000)
    codes, first, legal = trie.edges(trie.states_NL[probe, 2], 2)
    rows, places = ((codes == torch.from_numpy(codes_NL[probe, 2])[:, None]) & legal).nonzero(as_tuple=True)
    assert rows.tolist() == list(range(1000))
    assert trie.items_of(first + places + 1).tolist() == probe.tolist()


@settings(max_examples=60, deadline=None)
@given(catalogues, st.integers(0, 10_000))
def test_codes_lead_back_to_their_item_and_other_codes_to_none(codes_NL: np.ndarray, seed: int) -> None:
    trie = ItemTrie.from_codes(codes_NL, sizes_of(codes_NL))
    of_codes = {tuple(row): item for item, row in enumerate(codes_NL.tolist())}
    asked = np.random.default_rng(seed).integers(-1, max(sizes_of(codes_NL)) + 1, size=(4, 30, trie.levels))
    found = trie.items_with_codes(torch.from_numpy(asked))
    assert found.tolist() == [[of_codes.get(tuple(row), -1) for row in rows] for rows in asked.tolist()]
    assert trie.items_with_codes(torch.from_numpy(codes_NL)).tolist() == list(range(len(codes_NL)))
