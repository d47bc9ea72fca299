"""Generators with pathways: nothing leaks, padding has no effect, and cached decoding is exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_cases import (
    TOLERANCE,
    check_cached_steps,
    every_causal_kind,
    every_kind,
    make_generator,
    parameters_without_gradient,
)
from pathway_cases import (
    ITEMS,
    PATHWAYS,
    USERS,
    batch_of,
    features_of,
    lifelong_of,
    make_model,
    make_requests,
    make_stream,
    make_vocabulary,
    one_window,
    padded_with_other_events,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from onerec.data.stream import Stream, StreamWindows, stream_windows
from onerec.data.windows import Batch, share_of_batch
from onerec.errors import UserError
from onerec.model.bound_generator import item_log_probabilities
from onerec.model.counting import batch_flops, count_parameters, forward_flops
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from onerec.recommenders.generator import GeneratorRecommender


@every_kind
@torch.no_grad()
def test_cached_steps_equal_teacher_forcing(settings: dict[str, object]) -> None:
    items = torch.tensor([[9, 3], [4, 4], [0, 11], [1, 2], [5, 6], [7, 8]])
    check_cached_steps(make_model(**settings), batch_of(make_requests(make_stream())), items)


@every_kind
@torch.no_grad()
def test_padding_and_neighbours_in_the_batch_change_nothing(settings: dict[str, object]) -> None:
    """Even where others in the batch have more earlier events, and where padding holds other features."""
    model, requests = make_model(**settings), make_requests(make_stream())
    batch, items = batch_of(requests), torch.arange(20)[None]
    together = item_log_probabilities(model, batch, items.expand(USERS, -1))
    for row in range(USERS):
        alone = item_log_probabilities(model, batch_of(requests.pick(np.array([row]))), items)
        assert (alone - together[row]).abs().max() <= TOLERANCE
    features, outside = features_of(batch), torch.arange(6) >= batch.lengths_B[:, None]
    other = replace(
        features,
        features_BTF=torch.where(outside[..., None], 1, features.features_BTF),
        positive_items_BP=torch.where(features.positive_filled_BP, features.positive_items_BP, 7),
        positive_features_BPF=torch.where(features.positive_filled_BP[..., None], features.positive_features_BPF, 2),
        lifelong=padded_with_other_events(lifelong_of(batch)),
    )
    padded = replace(batch, items_BT=torch.where(outside, 5, batch.items_BT), context_features=other)
    again = item_log_probabilities(model, padded, items.expand(USERS, -1))
    assert (again - together).abs().max() <= TOLERANCE


@every_causal_kind
@torch.no_grad()
def test_every_position_of_a_window_is_trained_as_if_alone(settings: dict[str, object]) -> None:
    """The loss of a window is the sum of the losses of its prefixes, each with the same earlier events."""
    model, stream = make_model(**settings), make_stream()
    start, stop = 5, 11
    whole = model(one_window(stream, start, stop).batch(np.array([0])))
    ends = np.array([end for end in range(start + 1, stop + 1) if stream.is_target_E[end]])
    prefixes = StreamWindows(stream.item_index, np.full(len(ends), start), ends, ends - 1, stream, 3)
    apart = model(prefixes.batch(np.arange(len(ends))))
    assert len(ends) >= 2
    assert (whole - apart).abs().max() <= 1e-4  # sums of a few losses of about 4 nats in float32


def losses(model: Generator, stream: Stream, start: int, stop: int) -> np.ndarray:
    """-log p of the event after each place of a window, in one pass over the window, as in training."""
    batch = one_window(stream, start, stop).batch(np.array([0]))
    places = torch.arange(stop - start)
    return np.array([float(model(replace(batch, counted_BT=(places == place)[None])).sum()) for place in places])


@every_causal_kind
@torch.no_grad()
def test_the_features_of_an_event_never_reach_its_own_prediction(settings: dict[str, object]) -> None:
    """They move the predictions of later events, and of no others."""
    model, stream, (start, stop) = make_model(**settings), make_stream(), (5, 11)
    before = losses(model, stream, start, stop)
    for place in range(start + 1, stop):
        features_EF = stream.features_EF.copy()
        features_EF[place] = (features_EF[place] + 1) % [3, 3, 5]
        moved = np.abs(losses(model, replace(stream, features_EF=features_EF), start, stop) - before)
        assert moved[: place - start].max() <= 1e-6
        assert moved[place - start] > 1e-4
    features_EF = stream.features_EF.copy()
    features_EF[stop:] = (features_EF[stop:] + 1) % [3, 3, 5]  # the last target of the window, and all events after it
    assert np.abs(losses(model, replace(stream, features_EF=features_EF), start, stop) - before).max() <= 1e-6


@torch.no_grad()
def test_skipped_events_are_history_and_never_targets() -> None:
    model, stream, (start, stop) = make_model(), make_stream(), (5, 11)
    batch = one_window(stream, start, stop).batch(np.array([0]))
    assert batch.counted_BT[0].tolist() == stream.is_target_E[start + 1 : stop + 1].tolist()
    skipped = start + 1 + int(np.argmin(stream.is_target_E[start + 1 : stop]))
    assert not stream.is_target_E[skipped]
    items = stream.item_index.copy()
    items[skipped] = (items[skipped] + 1) % ITEMS
    changed = losses(model, replace(stream, item_index=items), start, stop)
    moved = np.abs(changed - losses(model, stream, start, stop))
    assert moved[skipped - start :].min() > 1e-4


@every_kind
@torch.no_grad()
def test_every_pathway_is_read(settings: dict[str, object]) -> None:
    """User, positive and lifelong events, features of events and of items: each changes the predictions."""
    model, stream = make_model(**settings), make_stream()
    batch, items = one_window(stream, 6, 10).batch(np.array([0])), torch.arange(20)[None]
    features, lifelong = features_of(batch), lifelong_of(batch)
    before = item_log_probabilities(model, batch, items)
    assert features.positive_filled_BP.any() and lifelong.filled_BR.all()
    others = {
        "users": {"users_BU": (features.users_BU + 1) % 3},
        "features": {"features_BTF": (features.features_BTF + 1) % 3},
        "positive items": {"positive_items_BP": (features.positive_items_BP + 1) % ITEMS},
        "positive features": {"positive_features_BPF": (features.positive_features_BPF + 1) % 3},
        "order of positive items": {"positive_items_BP": features.positive_items_BP.flip(1)},
        "lifelong items": {"lifelong": replace(lifelong, items_BR=(lifelong.items_BR + 1) % ITEMS)},
        "lifelong features": {"lifelong": replace(lifelong, features_BRF=(lifelong.features_BRF + 1) % 3)},
        "lifelong amounts": {"lifelong": replace(lifelong, amounts_BR2=lifelong.amounts_BR2 + 1)},
    }
    for name, other in others.items():
        changed = replace(batch, context_features=replace(features, **other))
        assert (item_log_probabilities(model, changed, items) - before).abs().max() > 1e-4, name
    assert model.tokens.features is not None
    model.tokens.features.item_codes_NGM = (model.tokens.features.item_codes_NGM + 1) % 9
    assert (item_log_probabilities(model, batch, items) - before).abs().max() > 1e-4


@every_kind
def test_every_parameter_gets_a_gradient(settings: dict[str, object]) -> None:
    """Even where no window has earlier events: processes that share a batch must agree on the parameters in use."""
    model, stream = make_model(**settings).train(), make_stream()
    stop = int(
        np.flatnonzero(stream.is_target_E[:12])[-1]
    )  # bidirectional contexts know only the target behind the window
    model(one_window(stream, 5, stop).batch(np.array([0]))).sum().backward()
    assert parameters_without_gradient(model) == []
    for rows in (np.array([0]), np.array([-1])):
        model.zero_grad(set_to_none=True)
        model(one_window(stream, 0, 3).batch(rows)).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("parts", [2, 3, 11])
@torch.no_grad()
def test_a_batch_in_parts_has_the_same_loss(parts: int) -> None:
    """Micro-batches and processes share the windows of a batch. A share without any window is padding and counts nothing."""
    model, stream = make_model(), make_stream()
    windows, rows = stream_windows(stream, 6, causal=True, earlier_positives=3), np.arange(8)
    whole = model(windows.batch(rows))
    shares = [model(windows.batch(share_of_batch(rows, part, parts))) for part in range(parts)]
    assert (torch.stack(shares).sum(dim=0) - whole).abs().max() <= 1e-3  # sums of 20 losses of about 4 nats


@torch.no_grad()
def test_without_context_features_all_are_unknown() -> None:
    """As `recommend --history` asks: the same as an unknown user whose events have no features."""
    model, batch = make_model(), batch_of(make_requests(make_stream()))
    unknown = {name: torch.zeros_like(part) for name, part in vars(features_of(batch)).items() if name != "lifelong"}
    events = {name: torch.zeros_like(part) for name, part in vars(lifelong_of(batch)).items()}
    features = replace(features_of(batch), **unknown, lifelong=replace(lifelong_of(batch), **events))
    items = torch.arange(20).expand(USERS, -1)
    without, zeros = (
        item_log_probabilities(model, replace(batch, context_features=given), items) for given in (None, features)
    )
    assert (without - zeros).abs().max() <= 1e-6


def test_features_are_dropped_in_training_alone() -> None:
    model = make_model({**PATHWAYS, "feature_dropout": 0.99}, dropout=0.0, own_dropout=0.0)
    batch = batch_of(make_requests(make_stream()))
    batch = replace(batch, counted_BT=torch.ones_like(batch.counted_BT))
    whole = model(batch)
    torch.manual_seed(1)
    assert (whole - model.train()(batch)).abs().max() > 1e-3


@every_kind
def test_saved_generators_load_with_their_features(tmp_path: Path, settings: dict[str, object]) -> None:
    model, batch = make_model(**settings), batch_of(make_requests(make_stream()))
    model.save_pretrained(tmp_path / "model")
    loaded = Generator.from_pretrained(tmp_path / "model")
    items = torch.arange(20).expand(USERS, -1)
    assert torch.equal(item_log_probabilities(model, batch, items), item_log_probabilities(loaded, batch, items))
    assert loaded.vocabulary is not None
    assert loaded.vocabulary.event == make_vocabulary().event


def test_features_need_their_vocabulary() -> None:
    ids = make_model().semantic_ids
    with pytest.raises(UserError, match="needs their vocabulary"):
        Generator(GeneratorConfig(width=24, heads=2, pathways=PATHWAYS), ids)  # type: ignore[arg-type]


def test_pathways_that_are_off_change_nothing() -> None:
    """The same parameters in the same order from the same seed, with the same values."""
    plain, off = make_generator(), make_generator(pathways={"stream": "all", "feature_width": 3})
    assert list(plain.state_dict()) == list(off.state_dict())
    assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in off.state_dict().items())


@every_kind
@torch.no_grad()
def test_a_wide_beam_equals_scoring_every_item_whatever_the_batch(settings: dict[str, object]) -> None:
    model, requests = make_model(**settings), make_requests(make_stream())
    scores_CN = item_log_probabilities(model, batch_of(requests), torch.arange(ITEMS).expand(USERS, -1))
    best = scores_CN.topk(10)
    for size in (1, 4, USERS):
        recommender = GeneratorRecommender(model, beam_width=ITEMS, batch_size=size)
        found = recommender.recommend(requests, 10, exclude_seen=False)
        assert np.array_equal(found.items_CK, best.indices.numpy())
        assert np.abs(found.scores_CK - best.values.numpy()).max() <= TOLERANCE


@every_kind
def test_counts_include_the_pathways(settings: dict[str, object]) -> None:
    """Parameters, and operations as torch's own counter counts them with the plain attention kernel."""
    model, stream = make_model(**settings).requires_grad_(False), make_stream()
    counted = count_parameters(model)
    assert counted.total == sum(parameter.numel() for parameter in model.parameters())
    assert counted.parts["prefix"] > 0
    places = np.stack([np.arange(6, 10), np.arange(22, 26)])
    features = stream.context_features(places, places[:, 0], np.array([0, 1]), 3)
    items = torch.from_numpy(stream.item_index[places])
    batch = Batch(items, items.roll(-1, 1), torch.ones_like(items, dtype=torch.bool), torch.tensor([4, 4]), features)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch)
    targets = 2 * (1 if model.last_positions_only else 4)
    flops = forward_flops(model, 4, features.positive_filled_BP.shape[1], lifelong_of(batch).items_BR.shape[1])
    in_batch = batch_flops(model, batch)
    assert flops.total(8, targets, histories=2) + in_batch["item_scorer"] == counter.get_total_flops()
    assert sum(in_batch.values()) == counter.get_total_flops()
