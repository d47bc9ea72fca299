"""Generators with every pathway, a stream of events that they read, and requests and windows over it."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from onerec.data.features import FeatureColumn, FeatureVocabulary
from onerec.data.lifelong import LifelongConfig, LifelongSource
from onerec.data.requests import Requests
from onerec.data.stream import Stream, StreamWindows
from onerec.data.windows import Batch, ContextFeatures, Lifelong
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


def one_window(stream: Stream, start: int, stop: int) -> StreamWindows:
    """The window over events start .. stop - 1; every target behind one of them counts."""
    bounds = np.array([start]), np.array([stop]), np.array([start])
    return StreamWindows(stream.item_index, *bounds, stream, 3)


def make_requests(stream: Stream) -> Requests:
    """All users, up to different places of their events. Their lists of positive items say nothing here."""
    ends_C = stream.offsets[:-1] + np.array([1, 4, 6, 7, 9, 11])
    plain = Requests.of_histories(np.arange(USERS), np.arange(USERS + 1))
    return replace(plain, users_C=np.arange(USERS), stream=stream, stream_ends_C=ends_C)


def batch_of(requests: Requests) -> Batch:
    """All requests as one batch, in their order."""
    ((rows, batch),) = requests.batches(6, 3, len(requests))
    assert rows.tolist() == sorted(rows.tolist())
    return batch


def features_of(batch: Batch) -> ContextFeatures:
    assert batch.context_features is not None
    return batch.context_features


def lifelong_of(batch: Batch) -> Lifelong:
    lifelong = features_of(batch).lifelong
    assert lifelong is not None
    return lifelong


def padded_with_other_events(lifelong: Lifelong) -> Lifelong:
    """The same with two more places of padding, and with something else in all of them."""
    filled_BR = nn.functional.pad(lifelong.filled_BR, (0, 2))
    return Lifelong(
        torch.where(filled_BR, nn.functional.pad(lifelong.items_BR, (0, 2)), 7),
        torch.where(filled_BR[..., None], nn.functional.pad(lifelong.features_BRF, (0, 0, 0, 2)), 2),
        torch.where(filled_BR[..., None], nn.functional.pad(lifelong.amounts_BR2, (0, 0, 0, 2)), 5.0),
        filled_BR,
    )
