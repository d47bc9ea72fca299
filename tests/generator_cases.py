"""Small random generators and batches that several test files share."""

import numpy as np
import polars as pl
import torch

from onerec.data.windows import Batch
from onerec.model.generator import Generator
from onerec.model.generator_config import GeneratorConfig
from tokenizer.semantic_ids import SemanticIds


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
