"""Beam search against scoring every item, on random tries with real generators, and corner cases."""

import numpy as np
import polars as pl
import pytest
import torch

from onerec.data.requests import Requests
from onerec.data.windows import Batch
from onerec.decode.beam_search import beam_search
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from tokenizer.semantic_ids import SemanticIds

# The project promises 1e-5: sums of a few float32 log-softmaxes, computed in a different order.
TOLERANCE = 1e-5


def random_generator(seed: int) -> tuple[Generator, np.random.Generator]:
    """A random catalogue of 1 to 60 items with 1 to 4 levels, and an untrained model with larger weights than at its start."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 7, size=draw.integers(1, 5))
    heads, decoder_layers = int(draw.choice([1, 2, 4])), int(draw.integers(1, 3))
    codes = np.unique(draw.integers(0, sizes, size=(60, len(sizes))), axis=0)
    codes = draw.permutation(codes).astype(np.int32)
    ids = SemanticIds(pl.Series(range(len(codes))), codes, codes, [int(size) for size in sizes])
    torch.manual_seed(seed)
    config = GeneratorConfig(
        width=16,
        heads=heads,
        encoder_layers=int(draw.integers(0, 3)),
        decoder_layers=decoder_layers,
        decoder=str(draw.choice(["encoder_decoder", "lazy"])),
        key_value_layers=int(draw.integers(1, decoder_layers + 1)),
        key_value_split=int(draw.integers(1, 3)),
        key_value_groups=int(draw.choice([groups for groups in (1, 2, 4) if heads % groups == 0])),
        # Rare on purpose: two ways to compute the same router score may choose different experts once in millions.
        experts=3 if seed % 10 == 0 else 0,
        experts_active=int(draw.integers(1, 3)),
        expert_hidden_width=12,
        shared_expert=bool(draw.integers(2)),
        expert_layers="encoder_and_decoder",
        hidden_width=24,
        context=str(draw.choice(["causal", "bidirectional"])),
        own_embedding=bool(draw.integers(2)),
        softmax=(softmax := str(draw.choice(["legal", "full"]))),
        item_head=softmax == "legal" and bool(draw.integers(2)),
        history_length=8,
    )
    model = Generator(config, ids).eval()
    for parameter in model.parameters():
        parameter.data.mul_(1.3)
    if model.item_vectors is not None:
        torch.nn.init.normal_(model.item_vectors, std=0.3)
    return model, draw


def one_batch(draw: np.random.Generator, model: Generator, count: int) -> Batch:
    """A batch of so many random histories."""
    lengths = draw.integers(1, 12, size=count)
    items = draw.integers(0, model.trie.item_count, size=lengths.sum())
    requests = Requests.of_histories(items, np.concatenate([[0], np.cumsum(lengths)]))
    ((_, batch),) = requests.batches(model.config.history_length, earlier_positives=0, batch_size=count)
    return batch


@pytest.mark.parametrize("block", range(10))
def test_a_wide_beam_equals_scoring_every_item(block: int) -> None:
    """200 random tries and models in ten blocks; order, scores and completeness."""
    for seed in range(20 * block, 20 * block + 20):
        model, draw = random_generator(seed)
        items = model.trie.item_count
        batch = one_batch(draw, model, 3)
        with torch.no_grad():
            beams = beam_search(bind(model, batch), model.trie, beam_width=items)
            reference = item_log_probabilities(model, batch, torch.arange(items).expand(3, -1))
        assert beams.items_BK.sort(dim=1).values.tolist() == [list(range(items))] * 3
        assert (reference.gather(1, beams.items_BK) - beams.log_probabilities_BK).abs().max() <= TOLERANCE
        assert (reference.sort(dim=1, descending=True).values - beams.log_probabilities_BK).abs().max() <= TOLERANCE
        if model.config.softmax == "legal":
            assert beams.log_probabilities_BK.exp().sum(dim=1) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_a_narrow_beam_is_legal_sorted_and_scored_exactly(seed: int) -> None:
    model, draw = random_generator(1000 + seed)
    items, width = model.trie.item_count, 3
    batch = one_batch(draw, model, 4)
    with torch.no_grad():
        beams = beam_search(bind(model, batch), model.trie, beam_width=width)
        reference = item_log_probabilities(model, batch, torch.arange(items).expand(4, -1))
    assert beams.items_BK.shape == (4, min(width, items))
    assert ((beams.items_BK >= 0) & (beams.items_BK < items)).all()
    assert all(len(set(row)) == len(row) for row in beams.items_BK.tolist())
    assert (reference.gather(1, beams.items_BK) - beams.log_probabilities_BK).abs().max() <= TOLERANCE
    assert (beams.log_probabilities_BK.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_excluded_items_never_appear_and_others_keep_their_scores(seed: int) -> None:
    model, draw = random_generator(2000 + seed)
    items = model.trie.item_count
    batch = one_batch(draw, model, 4)
    excluded = torch.from_numpy(draw.integers(-1, items, size=(4, 6)))
    with torch.no_grad():
        plain = beam_search(bind(model, batch), model.trie, beam_width=items)
        found = beam_search(bind(model, batch), model.trie, beam_width=items, excluded_BS=excluded)
    for row in range(4):
        banned = set(excluded[row].tolist())
        pairs = zip(plain.items_BK[row].tolist(), plain.log_probabilities_BK[row].tolist(), strict=True)
        kept = [(item, score) for item, score in pairs if item not in banned]
        listed = [i for i in found.items_BK[row].tolist() if i >= 0]
        assert listed == [item for item, _ in kept]
        assert found.log_probabilities_BK[row, : len(kept)].tolist() == [score for _, score in kept]
        assert (found.log_probabilities_BK[row, len(kept) :] == -torch.inf).all()


def test_excluding_everything_leaves_an_empty_list() -> None:
    model, draw = random_generator(7)
    items = model.trie.item_count
    batch = one_batch(draw, model, 2)
    everything = torch.arange(items).expand(2, -1)
    beams = beam_search(bind(model, batch), model.trie, beam_width=5, excluded_BS=everything)
    assert (beams.items_BK == -1).all()


@pytest.mark.parametrize("seed", range(10))
def test_users_that_are_stepped_apart_get_the_same_as_together(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts may find different numbers of items, and each keeps its own cache."""
    model, draw = random_generator(3000 + seed)
    batch = one_batch(draw, model, 5)
    with torch.no_grad():
        bound = bind(model, batch)
        together = beam_search(bound, model.trie, beam_width=4, by_level=True)
        monkeypatch.setattr("onerec.model.bound_generator.BEAM_FLOATS", 16 * 4 * 2)  # two users
        apart = beam_search(bound, model.trie, beam_width=4, by_level=True)
    assert torch.equal(together.items_BK, apart.items_BK)
    torch.testing.assert_close(together.log_probabilities_BKL, apart.log_probabilities_BKL, atol=TOLERANCE, rtol=0)


def test_full_softmax_loses_the_share_of_illegal_codes() -> None:
    """Two items and four codes: with equal logits each item gets a quarter, and among legal codes a half."""
    codes = np.array([[1], [2]], dtype=np.int32)
    ids = SemanticIds(pl.Series([0, 1]), codes, codes, [4])
    for softmax, expected in (("full", 0.25), ("legal", 0.5)):
        config = GeneratorConfig(width=16, heads=2, softmax=softmax, item_head=False)
        model = Generator(config, ids).eval()
        torch.nn.init.zeros_(model.decoder.heads[0].weight)
        children = model.child_log_probabilities(torch.randn(3, 16), torch.zeros(3, dtype=torch.long), 0)
        assert children.log_probabilities.exp().tolist() == [[pytest.approx(expected)] * 2] * 3
