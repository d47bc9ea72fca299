"""Query tokens of long histories: they read the past and nothing from the window on; padding and order have no effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pathway_cases import ITEMS, lifelong_of, make_model, make_stream, one_window, padded_with_other_events

from onerec.data.stream import Stream
from onerec.data.windows import Lifelong
from onerec.model.generator import Generator
from onerec.model.history.prefix import Prefix

PATHWAYS = {"lifelong": {"events": 20, "representatives": 4, "tokens": 3}}
START, STOP = 8, 12  # of a window of the first user, who has eight events before it: two per representative


def lifelong_model(**settings: object) -> Generator:
    """A generator that reads its history and all earlier events, and nothing else."""
    return make_model(PATHWAYS, **settings)


def prefix_of(model: Generator, stream: Stream, start: int = START, stop: int = STOP) -> Prefix:
    """The tokens before a window."""
    assert model.prefix is not None
    made: Prefix = model.prefix(one_window(stream, start, stop).batch(np.array([0])), model.tokens)
    return made


def representatives_of(stream: Stream) -> Lifelong:
    """The representatives before the window."""
    return lifelong_of(one_window(stream, START, STOP).batch(np.array([0])))


def featureless(stream: Stream) -> Stream:
    assert stream.lifelong is not None
    none = np.zeros((len(stream.item_index), 0), np.int16)
    return replace(stream, features_EF=none, lifelong=replace(stream.lifelong, numeric_F=np.zeros(0, bool)))


@torch.no_grad()
def test_the_number_of_tokens_does_not_depend_on_the_past() -> None:
    model, stream = lifelong_model(), featureless(make_stream())
    for start in (0, 1, 4, 9):
        prefix = prefix_of(model, stream, start)
        assert prefix.tokens_BPD.shape == (1, 3, 24)
        assert prefix.positions_P.tolist() == [-2, -2, -2]
        assert prefix.filled_BP.all() == (start > 0)
        assert prefix.tokens_BPD.isfinite().all()


@torch.no_grad()
def test_padding_and_the_order_of_representatives_have_no_effect() -> None:
    model, lifelong = lifelong_model(), representatives_of(featureless(make_stream()))
    assert model.prefix is not None
    assert model.prefix.lifelong is not None
    before = model.prefix.lifelong(lifelong, model.tokens)
    shuffled = Lifelong(*(part[:, [2, 0, 3, 1]] for part in vars(lifelong).values()))
    for other in (padded_with_other_events(lifelong), shuffled):
        assert (model.prefix.lifelong(other, model.tokens) - before).abs().max() <= 1e-5
    fewer = replace(lifelong, filled_BR=torch.tensor([[True, True, True, False]]))
    assert (model.prefix.lifelong(fewer, model.tokens) - before).abs().max() > 1e-3


@torch.no_grad()
def test_events_from_the_window_on_never_reach_the_tokens() -> None:
    """Neither items nor features of the window, or of events after it. Every event before the window reaches them."""
    model = make_model({**PATHWAYS, "event_features": "all", "stream": "all"})
    stream = make_stream()
    before = prefix_of(model, stream).tokens_BPD
    for place in range(START, int(stream.offsets[1])):
        items, features_EF = stream.item_index.copy(), stream.features_EF.copy()
        items[place], features_EF[place] = (items[place] + 1) % ITEMS, (features_EF[place] + 1) % 3
        other = replace(stream, item_index=items, features_EF=features_EF)
        assert torch.equal(prefix_of(model, other).tokens_BPD, before)
    for place in range(START):
        items = stream.item_index.copy()
        items[place] = (items[place] + 1) % ITEMS
        moved = (prefix_of(model, replace(stream, item_index=items)).tokens_BPD - before).abs().max()
        assert moved > 1e-5, place


@pytest.mark.parametrize("decoder", ["encoder_decoder", "lazy"])
def test_the_past_before_the_history_can_be_learnt_from(decoder: str) -> None:
    """All windows are the same. Only the earlier events tell the targets apart."""
    model = lifelong_model(decoder=decoder, dropout=0.0, own_dropout=0.0).train()
    draw = np.random.default_rng(0)
    users, vectors_NW = 16, draw.normal(size=(ITEMS, 3)).astype(np.float32)
    past = np.array([[place % 3 + 10 * (user % 2) for place in range(8)] for user in range(users)])
    items = np.concatenate([past, np.full((users, 1), 50), 40 + np.arange(users)[:, None] % 2], axis=1)
    source = replace(make_stream().lifelong, vectors_NW=vectors_NW, numeric_F=np.zeros(0, bool))  # type: ignore[type-var]
    offsets, nothing = np.arange(users + 1) * 10, np.zeros((users, 0), np.int32)
    stream = Stream(
        items.ravel(), offsets, np.ones(items.size, bool), np.zeros((items.size, 0), np.int16), nothing, source
    )
    windows = one_window(stream, 8, 9)
    windows = replace(windows, starts=offsets[:-1] + 8, stops=offsets[:-1] + 9, first_targets=offsets[:-1] + 8)
    batch = windows.batch(np.arange(users))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(batch).sum() / users
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1  # without a look at the past it is log 2 at least
