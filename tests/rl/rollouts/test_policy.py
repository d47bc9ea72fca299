"""Log-probabilities of codes under the trie and free: equal to those of decoding, with correct gradients."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from generator_cases import make_batch, make_generator
from request_cases import requests_of
from torch import Tensor

from onerec.data.features import PathwaysConfig
from onerec.data.stream import Stream
from onerec.decode.beam_search import beam_search
from onerec.errors import UserError
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.model.generator import Generator
from rl.rollouts.policy import batch_of, code_log_probabilities, score_codes

TOLERANCE = 1e-5
FULL = {"softmax": "full", "item_head": False}
KINDS: dict[str, dict[str, object]] = {
    "encoder_decoder": {},
    "lazy": {"decoder": "lazy", "encoder_layers": 0},
    "lookahead": {"item_loss": 0.5, "lookahead": True},
    "lazy_lookahead": {"item_loss": 0.5, "lookahead": True, "decoder": "lazy", "item_head": False},
    "experts": {"experts": 4, "expert_hidden_width": 16},
    "full": FULL,
    "lazy_full": {**FULL, "decoder": "lazy"},
}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=list(KINDS))
both_decoders = pytest.mark.parametrize("decoder", ["encoder_decoder", "lazy"])


def make_policy(**settings: object) -> Generator:
    """A generator whose item head, which starts at zero, says something."""
    model = make_generator(**settings)
    if model.item_vectors is not None:
        torch.nn.init.normal_(model.item_vectors, std=0.3)
    return model


def all_sequences(model: Generator) -> Tensor:
    return torch.tensor(list(product(*(range(size) for size in model.trie.level_sizes))))


@every_kind
@torch.no_grad()
def test_codes_of_items_have_the_same_probabilities_as_in_decoding(settings: dict[str, object]) -> None:
    model, batch = make_policy(**settings), make_batch([[1, 2, 3, 4], [5, 6], [7]])
    items = torch.tensor([[9, 3, 9], [4, 4, 50], [0, 11, 2]])
    scored = code_log_probabilities(model, batch, model.tokens.codes_NL[items], free=False)
    assert (scored.sum(dim=-1) - item_log_probabilities(model, batch, items)).abs().max() <= TOLERANCE
    beams = beam_search(bind(model, batch), model.trie, beam_width=20)
    scored = code_log_probabilities(model, batch, model.tokens.codes_NL[beams.items_BK], free=False)
    assert (scored.sum(dim=-1) - beams.log_probabilities_BK).abs().max() <= TOLERANCE


@every_kind
def test_gradients_are_those_of_the_reference(settings: dict[str, object]) -> None:
    model, batch = make_policy(**settings), make_batch([[1, 2, 3, 4], [5, 6], [7]])
    items, weights = torch.tensor([[9, 3, 9], [4, 4, 50], [0, 11, 2]]), torch.randn(3, 3)
    ours = code_log_probabilities(model, batch, model.tokens.codes_NL[items], free=False).sum(dim=-1)
    found = []
    for log_probabilities in (ours, bind(model, batch).log_probabilities_of(items)):
        model.zero_grad()
        (log_probabilities * weights).sum().backward()
        found.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)
    for part in ("encoder", "decoder.heads", "item_vectors", "item_scorer"):
        reached = any(gradient.any() for name, gradient in found[0].items() if name.startswith(part))
        there = {"item_vectors": model.item_vectors is not None, "item_scorer": bool(model.config.lookahead)}
        assert reached == there.get(part, True), part


@pytest.mark.parametrize("free", [False, True])
@every_kind
def test_gradients_equal_finite_differences(
    settings: dict[str, object], free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of log-probabilities and entropies, in double precision, along a random direction of all weights."""
    if free and settings.get("softmax") != "full":
        settings = {**settings, **FULL, "lookahead": False}
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the generator makes logits single on purpose
    model, batch = make_policy(**settings).double(), make_batch([[1, 2, 3, 4], [5, 6]])
    codes_BGL = model.tokens.codes_NL[torch.tensor([[9, 3], [4, 50]])]
    if free:
        codes_BGL = (codes_BGL + 1) % torch.tensor(model.trie.level_sizes)
    torch.manual_seed(1)
    weights, others = torch.randn(2, 2, 2, 3, dtype=torch.float64)

    def figure() -> Tensor:
        scored = score_codes(model, batch, codes_BGL, free)
        return (scored.log_probabilities_BGL * weights + scored.entropies_BGL * others).sum()

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(figure(), parameters, allow_unused=True)
    directions = [torch.randn_like(one) for one in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, ends = 1e-6, []
    with torch.no_grad():
        for move in (step, -2 * step):
            for one, direction in zip(parameters, directions, strict=True):
                one += move * direction
            ends.append(float(figure()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-6)
    assert abs(slope) > 1e-2


@pytest.mark.parametrize("kind", ["encoder_decoder", "lazy", "lookahead", "lazy_lookahead", "full", "lazy_full"])
@torch.no_grad()
def test_probabilities_sum_to_one_under_the_trie_and_free(kind: str) -> None:
    free = kind in ("full", "lazy_full")
    model, batch = make_policy(**KINDS[kind]), make_batch([[1, 2, 3, 4], [5, 6]])
    codes_BGL = (all_sequences(model) if free else model.tokens.codes_NL).expand(2, -1, -1)
    scored = score_codes(model, batch, codes_BGL, free)
    log_probabilities_BG = scored.log_probabilities_BGL.sum(dim=-1)
    assert log_probabilities_BG.isfinite().all()
    assert log_probabilities_BG.exp().sum(dim=1).tolist() == pytest.approx([1, 1], abs=TOLERANCE)
    # Chain rule: what whole sequences are uncertain by is what their codes are, one after the other.
    whole = -(log_probabilities_BG.exp() * log_probabilities_BG).sum(dim=1)
    by_code = (log_probabilities_BG.exp() * scored.entropies_BGL.sum(dim=-1)).sum(dim=1)
    assert by_code.tolist() == pytest.approx(whole.tolist(), abs=1e-4)


@torch.no_grad()
def test_the_full_softmax_gives_legal_codes_the_same_probability_free_and_under_the_trie() -> None:
    model, batch = make_policy(**FULL), make_batch([[1, 2, 3, 4], [5, 6]])
    codes_BGL = model.tokens.codes_NL[:10].expand(2, -1, -1)
    free, legal = (score_codes(model, batch, codes_BGL, free) for free in (True, False))
    assert (free.log_probabilities_BGL - legal.log_probabilities_BGL).abs().max() <= TOLERANCE
    # The last code of item 3 again, among those that lead to an item alone.
    siblings_N = (model.tokens.codes_NL[:, :2] == model.tokens.codes_NL[3, :2]).all(dim=1)
    assert 1 < siblings_N.sum() < 7
    among_GL = model.tokens.codes_NL[siblings_N].expand(2, -1, -1)
    among_legal = code_log_probabilities(model, batch, among_GL, free=True)[:, :, 2].log_softmax(dim=-1)
    expected_B = -(among_legal.exp() * among_legal).sum(dim=-1)
    assert (legal.entropies_BGL[:, 3, 2] - expected_B).abs().max() <= TOLERANCE


@pytest.mark.parametrize("free", [False, True])
@both_decoders
@torch.no_grad()
def test_padding_neighbours_and_their_order_change_nothing(decoder: str, free: bool) -> None:
    model = make_policy(decoder=decoder, **(FULL if free else {"item_loss": 0.5}))
    rows, codes_BGL = [[1, 2, 3, 4, 5, 6], [5, 6], [7]], model.tokens.codes_NL[torch.randint(60, (3, 4))]
    together = code_log_probabilities(model, make_batch(rows), codes_BGL, free)
    turned = code_log_probabilities(model, make_batch(rows[::-1], width=9), codes_BGL.flip(0, 1), free)
    assert (together - turned.flip(0, 1)).abs().max() <= TOLERANCE
    for row in range(3):
        alone = code_log_probabilities(model, make_batch([rows[row]]), codes_BGL[row : row + 1, :1], free)
        assert (together[row, :1] - alone[0]).abs().max() <= TOLERANCE


def test_a_policy_refuses_impossible_codes() -> None:
    batch, model = make_batch([[1, 2], [3]]), make_policy(item_loss=0.5)
    codes_BGL = model.tokens.codes_NL[torch.tensor([[1], [2]])].clone()
    with pytest.raises(UserError, match=r"softmax: legal, generator\.item_head: true, generator\.lookahead: true"):
        score_codes(model, batch, codes_BGL, free=True)
    known = {tuple(codes) for codes in model.tokens.codes_NL.tolist()}
    illegal = next(codes for codes in all_sequences(model).tolist() if tuple(codes) not in known)
    codes_BGL[1, 0] = torch.tensor(illegal)
    with pytest.raises(UserError, match=r"generation 0 of user 1: no item has the codes \["):
        score_codes(model, batch, codes_BGL, free=False)
    codes_BGL[1, 0, 2] = 7
    with pytest.raises(UserError, match=r"code 7 of level 3 lies outside 0\.\.6"):
        score_codes(model, batch, codes_BGL, free=False)
    with pytest.raises(UserError, match="have 3 codes, but these sequences have 2"):
        score_codes(model, batch, codes_BGL[..., :2], free=False)


@torch.no_grad()
def test_prompts_are_read_in_their_order() -> None:
    rows = [[1, 2, 3, 4, 5], [6], [7, 8, 9], [4] * 15]
    model, items = make_policy(), torch.arange(10)[None]
    prompts = requests_of(rows).pick(np.array([2, 0, 3, 1, 0]))
    found = item_log_probabilities(model, batch_of(model, prompts), items.expand(5, -1))
    for place, row in enumerate([2, 0, 3, 1, 0]):
        alone = item_log_probabilities(model, make_batch([rows[row][-12:]]), items)
        assert (found[place] - alone[0]).abs().max() <= TOLERANCE


@torch.no_grad()
def test_a_policy_with_pathways_reads_the_stream() -> None:
    rows = [[1, 2, 3, 4, 5, 6], [6, 9, 1], [7, 8, 9, 3]]
    stream = Stream(
        np.concatenate(rows).astype(np.int32),
        np.array([0, 6, 9, 13]),
        np.arange(13) % 2 == 0,
        np.zeros((13, 0), np.int16),
        np.zeros((3, 0), np.int16),
    )
    model = make_policy(history_length=2, pathways=PathwaysConfig(stream="all", positive_length=2))
    read = {"users_C": np.arange(3), "stream": stream, "stream_ends_C": np.array([5, 9, 13])}
    prompts = replace(requests_of(rows), **read)
    items = torch.arange(10)[None]
    found = item_log_probabilities(model, batch_of(model, prompts.pick(np.array([2, 0, 1]))), items.expand(3, -1))
    for place, row in enumerate([2, 0, 1]):
        alone = item_log_probabilities(model, batch_of(model, prompts.pick(np.array([row]))), items)
        assert (found[place] - alone[0]).abs().max() <= TOLERANCE
    shorter = batch_of(model, prompts.pick(np.array([0])))
    assert shorter.items_BT.tolist() == [[4, 5]] and shorter.context_features is not None
    assert shorter.context_features.positive_items_BP[shorter.context_features.positive_filled_BP].tolist() == [1, 3]
