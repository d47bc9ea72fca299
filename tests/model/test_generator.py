"""The generator: cached decoding against teacher forcing, padding, causality, saving and loading."""

from pathlib import Path

import numpy as np
import pytest
import torch
from generator_cases import (
    TOLERANCE,
    check_cached_steps,
    every_causal_kind,
    every_kind,
    make_batch,
    make_generator,
    parameters_without_gradient,
)

from onerec.data.windows import Batch, every_position_windows, one_target_windows
from onerec.errors import UserError
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.model.generator import Generator
from onerec.model.layers.experts import MixtureOfExperts
from tokenizer.errors import TokenizerError


@every_kind
@torch.no_grad()
def test_cached_steps_equal_teacher_forcing(settings: dict[str, object]) -> None:
    items = torch.tensor([[9, 3], [4, 4], [0, 11]])
    check_cached_steps(make_generator(**settings), make_batch([[1, 2, 3, 4], [5, 6], [7]]), items)


@every_kind
@torch.no_grad()
def test_padding_and_neighbours_in_the_batch_change_nothing(settings: dict[str, object]) -> None:
    model = make_generator(**settings)
    items = torch.arange(20)[None]
    alone = item_log_probabilities(model, make_batch([[3, 1, 4]]), items)
    padded = item_log_probabilities(model, make_batch([[3, 1, 4]], width=9), items)
    together = item_log_probabilities(model, make_batch([[2] * 8, [3, 1, 4]]), items.expand(2, -1))[1:]
    assert (alone - padded).abs().max() <= TOLERANCE
    assert (alone - together).abs().max() <= TOLERANCE


@every_causal_kind
@torch.no_grad()
def test_every_position_of_a_causal_window_is_trained_as_if_alone(settings: dict[str, object]) -> None:
    """The loss of a window is the sum of the losses of its prefixes: later items leak nothing."""
    model, sequence = make_generator(**settings), [3, 1, 4, 1, 5, 9]
    window = every_position_windows(np.array(sequence), np.array([0, 6]), length=12).batch(np.array([0]))
    prefixes = one_target_windows(np.array(sequence), np.array([0, 6]), length=12)
    apart = model(prefixes.batch(np.arange(len(prefixes))))
    assert (model(window) - apart).abs().max() <= 1e-4  # sums of 5 losses of about 5 nats in float32
    expected = [
        -item_log_probabilities(model, make_batch([sequence[:n]]), torch.tensor([[sequence[n]]])) for n in range(1, 6)
    ]
    assert float(model(window)[: model.levels].sum()) == pytest.approx(float(sum(expected)), abs=1e-4)


@every_kind
@torch.no_grad()
def test_order_of_the_history_matters(settings: dict[str, object]) -> None:
    """Even the order of items before the last one, whose state is a direct input of the decoder."""
    model, items = make_generator(**settings), torch.arange(30)[None]
    forward = item_log_probabilities(model, make_batch([[1, 2, 3]]), items)
    backward = item_log_probabilities(model, make_batch([[2, 1, 3]]), items)
    assert (forward - backward).abs().max() > 1e-3


@every_kind
def test_every_parameter_gets_a_gradient(settings: dict[str, object]) -> None:
    """Even in experts that no token chose. No gradient of a whole tensor is zero."""
    model = make_generator(**settings).train()
    model(make_batch([[1, 2, 3, 4, 5], [6, 7, 8]])).sum().backward()
    assert parameters_without_gradient(model) == []


def test_own_embeddings_can_be_dropped_and_left_out() -> None:
    assert make_generator(own_embedding=False).tokens.own_embeddings is None
    model, batch = make_generator(own_dropout=0.99, dropout=0.0), make_batch([[1, 2, 3]])
    model.train()
    torch.manual_seed(1)
    dropped = model(batch)
    model.eval()
    assert (model(batch) - dropped).abs().max() > 1e-4


@every_kind
def test_saved_generators_load_with_their_ids(tmp_path: Path, settings: dict[str, object]) -> None:
    model = make_generator(**settings)
    for module in model.modules():
        if isinstance(module, MixtureOfExperts):
            module.bias_E.uniform_()  # learnt biases are part of the model
    model.save_pretrained(tmp_path / "model")
    loaded = Generator.from_pretrained(tmp_path / "model")
    batch, items = make_batch([[1, 2, 3]]), torch.arange(20)[None]
    assert torch.equal(item_log_probabilities(model, batch, items), item_log_probabilities(loaded, batch, items))
    assert (loaded.semantic_ids.codes_NL == model.semantic_ids.codes_NL).all()
    assert loaded.config == model.config


def test_a_generator_without_its_ids_is_refused(tmp_path: Path) -> None:
    make_generator().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: missing"):
        Generator.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heads": 5}, r"width is 24; it must be a multiple of 2 x heads = 10"),
        ({"softmax": "full"}, "item_head works with legal codes only"),
        ({"softmax": "full", "item_head": False, "lookahead": True}, "lookahead works with legal codes only"),
        ({"decoder": "lazy", "key_value_groups": 3}, "key_value_groups is 3; it must divide the 2 heads"),
        ({"decoder": "lazy", "key_value_layers": 3}, "key_value_layers is 3; it must be at most the 2 decoder layers"),
        ({"experts": 2, "experts_active": 3}, "experts_active is 3; it must be at most the 2 experts"),
        ({"pathways": {"lifelong": {"events": 20, "representatives": 30}}}, "must be at least the 30 representatives"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_generator(**settings)


@every_kind
@torch.no_grad()
def test_item_scores_are_those_that_the_loss_is_made_of(settings: dict[str, object]) -> None:
    model = make_generator(**{**settings, "item_loss": 0.5})
    assert model.item_scorer is not None
    batch = make_batch([[1, 2, 3, 4], [5, 6], [7]])
    every_item = torch.arange(len(model.tokens.codes_NL)).expand(3, -1)
    scores = bind(model, batch).item_scores(every_item)
    assert scores is not None
    last = batch.lengths_B - 1
    only_last = torch.arange(4) == last[:, None]
    targets = torch.tensor([8, 9, 10])
    alone = Batch(batch.items_BT, torch.where(only_last, targets[:, None], 0), only_last, batch.lengths_B)
    expected = -scores.log_softmax(dim=1)[torch.arange(3), targets].sum()
    torch.testing.assert_close(model(alone)[-1], 0.5 * expected, rtol=1e-4, atol=1e-4)
    plain = make_generator(**{**settings, "item_loss": 0.0, "lookahead": False})
    assert len(plain(alone)) == model.levels
    assert bind(plain, batch).item_scores(every_item) is None


@torch.no_grad()
def test_a_sampled_item_loss_is_the_softmax_over_sample_and_targets() -> None:
    whole = make_generator(item_loss=1.0)
    sampled = make_generator(item_loss=1.0, item_loss_sample=10)
    sampled.load_state_dict(whole.state_dict())
    batch = make_batch([[1, 2, 3, 4], [5, 6], [7]])
    exact = float(whole(batch)[-1])
    drawn = [float(sampled(batch)[-1]) for _ in range(20)]
    assert max(drawn) < exact  # the target competes with fewer items
    assert len(set(drawn)) > 1


def test_items_without_events_are_scored_by_their_codes() -> None:
    """With its own embedding dropped, an item is the sum of its codes' embeddings."""
    model = make_generator(item_loss=1.0)
    codes = model.tokens.codes_NL[:5]
    expected = sum(model.tokens.embed_codes(codes[:, level], level) / model.tokens.scale for level in range(3))
    torch.testing.assert_close(model.tokens.item_vectors(torch.arange(5), own_dropout=1.0), expected)


@pytest.mark.parametrize("path", ["runs/typo/generator/model", "./typo", "/nowhere/at/all", "typo"])
def test_a_path_without_a_folder_is_never_looked_for_on_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked the Hub")

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", refuse)
    with pytest.raises(UserError, match="no such folder"):
        Generator.from_pretrained(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "semantic_ids/item_codes.parquet"])
def test_a_model_folder_whose_files_have_changed_is_refused(name: str, tmp_path: Path) -> None:
    make_generator().save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(TokenizerError, match="not the file that was saved"):
        Generator.from_pretrained(tmp_path / "model")
