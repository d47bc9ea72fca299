"""Generators that read features, all events, users and older events: nothing leaks, padding says nothing, cached is exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from test_generator import KINDS, TOLERANCE, make_generator
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from onerec.data.features import FeatureColumn, FeatureVocabulary
from onerec.data.lifelong import LifelongConfig, LifelongSource
from onerec.data.stream import Readings, Stream, StreamWindows, padded_readings, stream_windows
from onerec.data.windows import Batch, Lifelong, share_of_batch
from onerec.recommenders.generator import GeneratorRecommender
from onerec.errors import UserError
from onerec.model.bound_generator import bind, item_log_probabilities
from onerec.model.counting import batch_flops, count_parameters, forward_flops
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from tokenizer.semantic_ids import SemanticIds

ITEMS, USERS = 60, 6
PATHWAYS: dict[str, Any] = {
    "stream": "all",
    "event_features": ["liked", "shared", "play_ratio"],
    "item_features": ["author"],
    "user_features": ["country", "age"],
    "feature_width": 4,
    "positive_length": 3,
    "lifelong": {"events": 20, "representatives": 4, "tokens": 3},
}
kinds = pytest.mark.parametrize("settings", KINDS.values(), ids=list(KINDS))
causal_kinds = pytest.mark.parametrize(
    "settings",
    [settings for settings in KINDS.values() if "context" not in settings],
    ids=[name for name, settings in KINDS.items() if "context" not in settings],
)


def make_vocabulary() -> FeatureVocabulary:
    draw = np.random.default_rng(1)
    event = [FeatureColumn(name=name, values=["0", "1"]) for name in ("liked", "shared")]
    event.append(FeatureColumn(name="play_ratio", edges=[0.2, 0.5, 1.0]))
    user = [FeatureColumn(name="country", values=["FR", "IT"]), FeatureColumn(name="age", edges=[30.0])]
    codes_NGM = np.sort(draw.integers(0, 9, size=(ITEMS, 1, 2)), axis=2)[..., ::-1].astype(np.int32)
    return FeatureVocabulary(event, [FeatureColumn(name="author", values=list("abcdefgh"))], user, codes_NGM.copy())


def make_model(pathways: dict[str, Any] | None = None, seed: int = 0, **settings: object) -> Generator:
    """A small generator over 60 items with every pathway on, unless told otherwise; its weights are random."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(range(5), range(6), range(7), indexing="ij"), axis=-1).reshape(-1, 3)
    codes = draw.permutation(grid)[:ITEMS].astype(np.int32)
    torch.manual_seed(seed)
    chosen = {"width": 24, "heads": 2, "hidden_width": 32, "history_length": 6, **settings}
    config = GeneratorConfig(**chosen, pathways=PATHWAYS if pathways is None else pathways)  # type: ignore[arg-type]
    ids = SemanticIds(pl.Series(range(ITEMS)), codes, codes, [5, 6, 7])
    return Generator(config, ids, make_vocabulary() if config.pathways.names_features else None).eval()


def make_stream(seed: int = 0) -> Stream:
    """Six users; their third event and about half of the others are targets. Four events before a window need no clusters."""
    draw = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(draw.integers(12, 20, size=USERS))])
    is_target_E = draw.random(offsets[-1]) < 0.5
    is_target_E[offsets[:-1] + 2] = True
    features_EF = np.stack([draw.integers(0, size, size=offsets[-1]) for size in (3, 3, 5)], axis=1).astype(np.int16)
    users_UF = np.stack([draw.integers(0, size, size=USERS) for size in (3, 3)], axis=1).astype(np.int32)
    items_E = draw.integers(0, ITEMS, size=offsets[-1])
    vectors_NW = draw.normal(size=(ITEMS, 3)).astype(np.float32)
    lifelong = LifelongSource(LifelongConfig(**PATHWAYS["lifelong"]), vectors_NW, np.array([False, False, True]))
    return Stream(items_E, offsets, is_target_E, features_EF, users_UF, lifelong)


def one_window(stream: Stream, start: int, stop: int, older: int = 3) -> StreamWindows:
    """The window over events start .. stop - 1; every target behind one of them counts."""
    bounds = np.array([start]), np.array([stop]), np.array([start])
    return StreamWindows(stream.item_index, *bounds, stream, older)


def readings(stream: Stream) -> Readings:
    """All users, up to different places of their events."""
    return Readings(stream, np.arange(USERS), stream.offsets[:-1] + np.array([1, 4, 6, 7, 9, 11]))


def batch_of(asked: Readings, older: int = 3) -> Batch:
    """All cases as one batch, in their order."""
    ((cases, batch),) = padded_readings(asked, 6, older, batch_size=len(asked.users_C))
    assert cases.tolist() == sorted(cases.tolist())
    return batch


@kinds
@torch.no_grad()
def test_cached_steps_equal_teacher_forcing(settings: dict[str, object]) -> None:
    model, batch = make_model(**settings), batch_of(readings(make_stream()))
    items = torch.tensor([[9, 3], [4, 4], [0, 11], [1, 2], [5, 6], [7, 8]])
    bound, codes = bind(model, batch), model.tokens.codes_NL[items]
    forced_BPLD = bound.states_of_codes(codes)
    hidden, cache = bound.start()
    assert (hidden - forced_BPLD[:, :, 0]).abs().max() <= TOLERANCE
    parents = torch.zeros(USERS, 2, dtype=torch.long)
    for level in (1, 2):
        hidden, cache = bound.step(codes[..., level - 1], parents, level, cache)
        assert (hidden - forced_BPLD[:, :, level]).abs().max() <= TOLERANCE
        parents = torch.arange(2).expand(USERS, -1)


@kinds
@torch.no_grad()
def test_padding_and_neighbours_in_the_batch_change_nothing(settings: dict[str, object]) -> None:
    """Also where others in the batch have more older events, and where padding holds other features."""
    model, asked = make_model(**settings), readings(make_stream())
    batch, items = batch_of(asked), torch.arange(20)[None]
    together = item_log_probabilities(model, batch, items.expand(USERS, -1))
    for case in range(USERS):
        alone = item_log_probabilities(model, batch_of(asked.part(slice(case, case + 1))), items)
        assert (alone - together[case]).abs().max() <= TOLERANCE
    features = batch.context_features
    assert features is not None
    outside = torch.arange(6) >= batch.lengths_B[:, None]
    other = replace(
        features,
        features_BTF=torch.where(outside[..., None], 1, features.features_BTF),
        positive_items_BP=torch.where(features.positive_filled_BP, features.positive_items_BP, 7),
        positive_features_BPF=torch.where(features.positive_filled_BP[..., None], features.positive_features_BPF, 2),
        lifelong=padded_with_other_events(features.lifelong),
    )
    padded = replace(batch, items_BT=torch.where(outside, 5, batch.items_BT), context_features=other)
    again = item_log_probabilities(model, padded, items.expand(USERS, -1))
    assert (again - together).abs().max() <= TOLERANCE


def padded_with_other_events(lifelong: Lifelong | None) -> Lifelong:
    """The same with two more places of padding, and with something else in all of them."""
    assert lifelong is not None
    filled_BR = nn.functional.pad(lifelong.filled_BR, (0, 2))
    return Lifelong(
        torch.where(filled_BR, nn.functional.pad(lifelong.items_BR, (0, 2)), 7),
        torch.where(filled_BR[..., None], nn.functional.pad(lifelong.features_BRF, (0, 0, 0, 2)), 2),
        torch.where(filled_BR[..., None], nn.functional.pad(lifelong.amounts_BR2, (0, 0, 0, 2)), 5.0),
        filled_BR,
    )


@causal_kinds
@torch.no_grad()
def test_every_position_of_a_window_is_trained_as_if_alone(settings: dict[str, object]) -> None:
    """The loss of a window is the sum of those of its prefixes, each with the same older events."""
    model, stream = make_model(**settings), make_stream()
    start, stop = 5, 11
    whole = model(one_window(stream, start, stop).batch(np.array([0])))
    ends = np.array([end for end in range(start + 1, stop + 1) if stream.is_target_E[end]])
    prefixes = StreamWindows(stream.item_index, np.full(len(ends), start), ends, ends - 1, stream, 3)
    apart = model(prefixes.batch(np.arange(len(ends))))
    assert len(ends) >= 2
    assert (whole - apart).abs().max() <= 1e-4  # sums of a few losses of about 4 nats in float32


def losses(model: Generator, stream: Stream, start: int, stop: int) -> np.ndarray:
    """-log p of the event behind each place of a window, in one pass over the window as it is trained."""
    batch = one_window(stream, start, stop).batch(np.array([0]))
    places = torch.arange(stop - start)
    return np.array([float(model(replace(batch, counted_BT=(places == place)[None])).sum()) for place in places])


@causal_kinds
@torch.no_grad()
def test_what_an_event_is_like_never_reaches_its_own_prediction(settings: dict[str, object]) -> None:
    """Its signals and features move the predictions of later events, and of no other; so does the item of an older one."""
    model, stream, (start, stop) = make_model(**settings), make_stream(), (5, 11)
    before = losses(model, stream, start, stop)
    for place in range(start + 1, stop):
        features_EF = stream.features_EF.copy()
        features_EF[place] = (features_EF[place] + 1) % [3, 3, 5]
        moved = np.abs(losses(model, replace(stream, features_EF=features_EF), start, stop) - before)
        assert moved[: place - start].max() <= 1e-6
        assert moved[place - start] > 1e-4
    features_EF = stream.features_EF.copy()
    features_EF[stop:] = (features_EF[stop:] + 1) % [3, 3, 5]  # the last target of the window, and all behind it
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


@kinds
@torch.no_grad()
def test_every_pathway_is_read(settings: dict[str, object]) -> None:
    """User, older events and their features, features of events and of items: each moves what is predicted."""
    model, stream = make_model(**settings), make_stream()
    batch, items = one_window(stream, 6, 10).batch(np.array([0])), torch.arange(20)[None]
    features, before = batch.context_features, item_log_probabilities(model, batch, items)
    assert features is not None
    assert features.positive_filled_BP.any()
    lifelong = features.lifelong
    assert lifelong is not None
    assert lifelong.filled_BR.all()
    others = {
        "users": replace(features, users_BU=(features.users_BU + 1) % 3),
        "older items": replace(features, positive_items_BP=(features.positive_items_BP + 1) % ITEMS),
        "older features": replace(features, positive_features_BPF=(features.positive_features_BPF + 1) % 3),
        "features": replace(features, features_BTF=(features.features_BTF + 1) % 3),
        "order of older items": replace(features, positive_items_BP=features.positive_items_BP.flip(1)),
        "lifelong items": replace(features, lifelong=replace(lifelong, items_BR=(lifelong.items_BR + 1) % ITEMS)),
        "lifelong features": replace(
            features, lifelong=replace(lifelong, features_BRF=(lifelong.features_BRF + 1) % 3)
        ),
        "lifelong amounts": replace(features, lifelong=replace(lifelong, amounts_BR2=lifelong.amounts_BR2 + 1)),
    }
    for name, other in others.items():
        after = item_log_probabilities(model, replace(batch, context_features=other), items)
        assert (after - before).abs().max() > 1e-4, name
    assert model.tokens.features is not None
    model.tokens.features.item_codes_NGM = (model.tokens.features.item_codes_NGM + 1) % 9
    assert (item_log_probabilities(model, batch, items) - before).abs().max() > 1e-4


@kinds
def test_every_parameter_gets_a_gradient(settings: dict[str, object]) -> None:
    """Also where no window has older events, as processes that share a batch must agree on which parameters are used."""
    model, stream = make_model(**settings).train(), make_stream()
    stop = int(
        np.flatnonzero(stream.is_target_E[:12])[-1]
    )  # a target, for those that have the one behind the window alone
    model(one_window(stream, 5, stop).batch(np.array([0]))).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    for rows in (np.array([0]), np.array([-1])):
        model.zero_grad(set_to_none=True)
        model(one_window(stream, 0, 3).batch(rows)).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("parts", [2, 3, 11])
@torch.no_grad()
def test_a_batch_in_parts_has_the_same_loss(parts: int) -> None:
    """Micro-batches and processes share a batch by its windows; a share without any is padding and counts nothing."""
    model, stream = make_model(), make_stream()
    windows, rows = stream_windows(stream, 6, causal=True, older=3), np.arange(8)
    whole = model(windows.batch(rows))
    shares = [model(windows.batch(share_of_batch(rows, part, parts))) for part in range(parts)]
    assert (torch.stack(shares).sum(dim=0) - whole).abs().max() <= 1e-3  # sums of 20 losses of about 4 nats


@torch.no_grad()
def test_without_anything_known_all_is_unknown() -> None:
    """What `recommend --history` asks: the same as an unknown user whose events are not described."""
    model, batch = make_model(), batch_of(readings(make_stream()))
    features = batch.context_features
    assert features is not None
    nothing = {name: torch.zeros_like(part) for name, part in vars(features).items() if isinstance(part, torch.Tensor)}
    assert features.lifelong is not None
    events = {name: torch.zeros_like(part) for name, part in vars(features.lifelong).items()}
    nothing["lifelong"] = replace(features.lifelong, **events)
    items = torch.arange(20).expand(USERS, -1)
    bare = item_log_probabilities(model, replace(batch, context_features=None), items)
    assert (
        bare - item_log_probabilities(model, replace(batch, context_features=replace(features, **nothing)), items)
    ).abs().max() <= 1e-6


def test_features_are_dropped_in_training_alone() -> None:
    model = make_model({**PATHWAYS, "feature_dropout": 0.99}, dropout=0.0, own_dropout=0.0)
    batch = batch_of(readings(make_stream()))
    features = batch.context_features
    assert features is not None
    whole = model(replace(batch, counted_BT=torch.ones_like(batch.counted_BT)))
    torch.manual_seed(1)
    dropped = model.train()(replace(batch, counted_BT=torch.ones_like(batch.counted_BT)))
    assert (whole - dropped).abs().max() > 1e-3


@kinds
def test_saved_generators_load_with_their_features(tmp_path: Path, settings: dict[str, object]) -> None:
    model, batch = make_model(**settings), batch_of(readings(make_stream()))
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


def test_without_pathways_a_generator_is_the_one_it_was() -> None:
    """The same parameters in the same order from the same seed, and the same numbers."""
    plain, off = make_generator(), make_generator(pathways={"stream": "all", "feature_width": 3})
    assert list(plain.state_dict()) == list(off.state_dict())
    assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in off.state_dict().items())


@kinds
@torch.no_grad()
def test_beams_are_those_of_every_item_scored_whatever_the_batch(settings: dict[str, object]) -> None:
    model, asked = make_model(**settings), readings(make_stream())
    history = np.arange(USERS), np.arange(USERS + 1)
    found = [
        GeneratorRecommender(model, beam_width=ITEMS, batch_size=size).recommend(*history, 10, False, asked)
        for size in (1, 4, USERS)
    ]
    scores_CN = item_log_probabilities(model, batch_of(asked), torch.arange(ITEMS).expand(USERS, -1))
    best = scores_CN.topk(10)
    for items, scores in found:
        assert np.array_equal(items, best.indices.numpy())
        assert np.abs(scores - best.values.numpy()).max() <= TOLERANCE


@kinds
def test_counts_include_the_pathways(settings: dict[str, object]) -> None:
    """Parameters, and operations beside torch's own counter with the plain attention kernel."""
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
    assert features.lifelong is not None
    flops = forward_flops(model, 4, features.positive_filled_BP.shape[1], features.lifelong.items_BR.shape[1])
    in_batch = batch_flops(model, batch)
    assert flops.total(8, targets, histories=2) + in_batch["item_scorer"] == counter.get_total_flops()
    assert sum(in_batch.values()) == counter.get_total_flops()
