"""Lookahead: exact sums over subtrees, the same in training and decoding, and the item softmax where all heads give 0."""

import numpy as np
import pytest
import torch
from generator_cases import make_batch, make_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from onerec.decode.beam_search import beam_search
from onerec.decode.item_trie import ItemTrie
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.model.decoders.lookahead import ahead_of_all, ahead_of_targets

TOLERANCE = 1e-5


def random_trie(seed: int, levels: int) -> ItemTrie:
    draw = np.random.default_rng(seed)
    codes = np.unique(draw.integers(0, 4, size=(draw.integers(1, 40), levels)), axis=0)
    return ItemTrie.from_codes(draw.permutation(codes), [4] * levels)


def slow_sums(trie: ItemTrie, scores_N: torch.Tensor, target: int, level: int) -> dict[int, float]:
    """Log of summed exponentials behind each child of the target's state, by the child's place; scores by item number."""
    found: dict[int, float] = {}
    for item in range(trie.item_count):
        if trie.states_NL[item, level] == trie.states_NL[target, level]:
            place = int(trie.child_places_NL[item, level])
            found[place] = found.get(place, 0.0) + float(scores_N[item].exp())
    return {place: float(np.log(total)) for place, total in found.items()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_sums_equal_a_loop_over_items_in_training_and_decoding(seed: int, levels: int) -> None:
    trie = random_trie(seed, levels)
    torch.manual_seed(seed)
    scores_XN = torch.randn(5, trie.item_count, dtype=torch.float64)
    targets = torch.randint(trie.item_count, (5,))
    in_order_NX = scores_XN[:, trie.items].T.contiguous()
    ahead, losses = ahead_of_targets(in_order_NX, trie, targets)
    everywhere_XE = ahead_of_all(in_order_NX, trie)
    torch.testing.assert_close(losses, -scores_XN.log_softmax(dim=1).gather(1, targets[:, None])[:, 0])
    for case, target in enumerate(targets.tolist()):
        for level in range(levels):
            slow = slow_sums(trie, scores_XN[case], target, level)
            state = int(trie.states_NL[target, level])
            first_edge, highest = int(trie.offsets[state]), float(scores_XN[case].max())
            for place, total in slow.items():
                assert float(ahead[level][case, place]) == pytest.approx(total - highest, abs=1e-9)
                assert float(everywhere_XE[case, first_edge + place]) == pytest.approx(total - highest, abs=1e-9)


def test_gradients_are_those_of_the_sums() -> None:
    trie = random_trie(3, 3)
    torch.manual_seed(0)
    scores = torch.randn(trie.item_count, 4, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(trie.item_count, (4,)), torch.randn(3, 4, max(trie.branches), dtype=torch.float64)

    def loss(scores_NX: torch.Tensor) -> torch.Tensor:
        # The generator takes a softmax over children, in which the constant of a context cancels.
        ahead, losses = ahead_of_targets(scores_NX, trie, targets)
        found = [(a.softmax(-1) * w[:, : a.shape[1]]).sum() for a, w in zip(ahead, weights, strict=True)]
        return torch.stack(found).sum() + losses.sum()

    assert torch.autograd.gradcheck(loss, (scores,))


@pytest.mark.parametrize("decoder", ["encoder_decoder", "lazy"])
@torch.no_grad()
def test_with_heads_of_zero_the_generator_is_the_item_softmax(decoder: str) -> None:
    model = make_generator(decoder=decoder, item_loss=0.5, lookahead=True)
    for head in model.decoder.heads:
        head.weight.zero_()
    batch, count = make_batch([[1, 2, 3], [4, 5]]), model.trie.item_count
    everything = torch.arange(count).expand(2, -1)
    scores = bind(model, batch).item_scores(everything)
    assert scores is not None
    expected = scores.log_softmax(dim=1)
    assert (item_log_probabilities(model, batch, everything) - expected).abs().max() <= TOLERANCE
    beams = beam_search(bind(model, batch), model.trie, beam_width=count)
    assert torch.equal(beams.items_BK[:, :10], expected.argsort(dim=1, descending=True)[:, :10])


@torch.no_grad()
def test_probabilities_still_sum_to_one_and_training_is_their_loss() -> None:
    model = make_generator(item_loss=0.5, lookahead=True, own_dropout=0.0, dropout=0.0)
    torch.nn.init.normal_(model.item_vectors)  # type: ignore[arg-type]
    batch = make_batch([[1, 2, 3, 9], [4, 5, 6]])
    every = torch.arange(model.trie.item_count).expand(2, -1)
    assert item_log_probabilities(model, batch, every).exp().sum(dim=1) == pytest.approx([1, 1], abs=TOLERANCE)
    expected = sum(
        -item_log_probabilities(model, make_batch([sequence[:n]]), torch.tensor([[sequence[n]]])).item()
        for sequence in ([1, 2, 3, 9], [4, 5, 6])
        for n in range(1, len(sequence))
    )
    shifted = make_batch([[1, 2, 3], [4, 5]])
    shifted.targets_BT[:] = torch.tensor([[2, 3, 9], [5, 6, 0]])
    assert float(model(shifted)[: model.levels].sum()) == pytest.approx(expected, rel=1e-5)


def test_auto_looks_ahead_where_the_catalogue_is_compared_whole() -> None:
    assert make_generator(item_loss=0.5).config.lookahead is True
    assert make_generator(item_loss=0.5, item_loss_sample=10).config.lookahead is False
    assert make_generator(item_loss=0.0).config.lookahead is False
    assert make_generator(item_loss=0.5, softmax="full", item_head=False).config.lookahead is False
