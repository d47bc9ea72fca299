"""Small random generators and batches that several test files share, and what must hold for all of them."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from onerec.data.windows import Batch
from onerec.model.bound_generator import bind
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from tokenizer.semantic_ids import SemanticIds

TOLERANCE = 1e-5
EXPERTS = {"experts": 4, "expert_hidden_width": 16, "expert_layers": "encoder_and_decoder"}
KINDS: dict[str, dict[str, Any]] = {
    "encoder_decoder": {},
    "bidirectional": {"context": "bidirectional"},
    "lazy": {"decoder": "lazy", "encoder_layers": 0},
    "lazy_in_groups": {"decoder": "lazy", "decoder_layers": 3, "key_value_layers": 2, "key_value_groups": 1},
    "lazy_own_values": {"decoder": "lazy", "key_value_layers": 2, "key_value_split": 2, "context": "bidirectional"},
    "experts": {**EXPERTS, "shared_expert": True},
    "lookahead": {"item_loss": 0.5, "lookahead": True},
    "lazy_lookahead": {"item_loss": 0.5, "lookahead": True, "decoder": "lazy"},
    "lazy_experts": {**EXPERTS, "decoder": "lazy", "encoder_layers": 0, "experts_active": 1, "dense_layers": 1},
}
CAUSAL_KINDS = {name: settings for name, settings in KINDS.items() if "context" not in settings}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=list(KINDS))
every_causal_kind = pytest.mark.parametrize("settings", CAUSAL_KINDS.values(), ids=list(CAUSAL_KINDS))


def make_generator(seed: int = 0, **settings: object) -> Generator:
    draw = np.random.default_rng(seed)
    codes = draw.permutation(np.unique(draw.integers(0, [5, 6, 7], size=(80, 3)), axis=0)).astype(np.int32)
    torch.manual_seed(seed)
    config = GeneratorConfig(**{"width": 24, "heads": 2, "hidden_width": 32, "history_length": 12, **settings})  # type: ignore[arg-type]
    return Generator(config, SemanticIds(pl.Series(range(len(codes))), codes, codes, [5, 6, 7])).eval()


def make_batch(rows: list[list[int]], width: int | None = None) -> Batch:
    lengths = torch.tensor([len(row) for row in rows])
    time = width or int(lengths.max())
    items = torch.zeros(len(rows), time, dtype=torch.long)
    for row, values in enumerate(rows):
        items[row, : len(values)] = torch.tensor(values)
    counted = torch.arange(time) < lengths[:, None]
    return Batch(items, items.roll(-1, dims=1), counted, lengths)


def check_cached_steps(model: Generator, batch: Batch, items_B2: torch.Tensor) -> None:
    """Decoding two items of each user step by step, with a cache, gives the states of teacher forcing."""
    bound, codes = bind(model, batch), model.tokens.codes_NL[items_B2]
    forced_BPLD = bound.states_of_codes(codes)
    hidden, cache = bound.start()
    assert (hidden - forced_BPLD[:, :, 0]).abs().max() <= TOLERANCE
    parents = torch.zeros_like(items_B2)
    for level in range(1, model.levels):
        hidden, cache = bound.step(codes[..., level - 1], parents, level, cache)
        assert (hidden - forced_BPLD[:, :, level]).abs().max() <= TOLERANCE
        parents = torch.arange(2).expand_as(items_B2)


def parameters_without_gradient(model: Generator) -> list[str]:
    """Names of parameters whose whole gradient is missing or zero."""
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
