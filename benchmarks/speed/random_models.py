"""Generators of random weights over random IDs, and random histories: for speed, which does not depend on quality."""

from typing import Any


def random_generator(items: int, level_sizes: tuple[int, ...], *, width: int, item_head: bool, **settings: Any) -> Any:
    """A generator with random weights over distinct random IDs, ready to decode.

    It is an encoder-decoder of two and two layers without own embeddings, unless `settings` (keys of its config) change that.
    """
    import numpy as np
    import polars as pl
    import torch

    from onerec.model.generator import Generator
    from onerec.model.generator_config import GeneratorConfig
    from tokenizer.semantic_ids import SemanticIds

    numbers = np.random.default_rng(0).choice(int(np.prod(level_sizes)), size=2 * items)
    numbers = np.unique(numbers)
    numbers = np.sort(np.random.default_rng(1).permutation(numbers)[:items])
    codes_NL = np.stack(np.unravel_index(numbers, level_sizes), axis=1).astype(np.int32)
    ids = SemanticIds(pl.Series(np.arange(len(codes_NL))), codes_NL, codes_NL, list(level_sizes))
    torch.manual_seed(0)
    usual: dict[str, Any] = {
        "heads": max(1, width // 64),
        "encoder_layers": 2,
        "decoder_layers": 2,
        "hidden_width": 2 * width,
        "own_embedding": False,
        "history_length": 50,
    }
    config = GeneratorConfig(**(usual | {"width": width, "item_head": item_head} | settings))
    return Generator(config, ids).eval()


def random_batch(items: int, users: int, length: int = 50) -> Any:
    """Full histories of random items."""
    import torch

    from onerec.data.windows import Batch

    items_BT = torch.randint(items, (users, length), generator=torch.Generator().manual_seed(0))
    return Batch(items_BT, items_BT, torch.zeros_like(items_BT, dtype=torch.bool), torch.full((users,), length))
