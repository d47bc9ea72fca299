"""Where residual codebooks start, and how they end without dead codes."""

import torch
from torch import Tensor

from tokenizer.clustering.kmeans import kmeans, nearest_centroids

START_ROUNDS = 10  # of k-means for the codebooks to start from; training moves them on
REVIVE_ROUNDS = 20  # a code given a place may take the only row of another; few rounds settle it in practice
ROWS = 1 << 14  # rows whose codebook rows are gathered at once


def start_codebooks(residual_SW: Tensor, level_sizes: list[int], seed: int) -> tuple[list[Tensor], Tensor]:
    """k-means on the rows, then on what it leaves over, and so on: codebooks [V,W] and the rows' codes int64 [S,L].

    residual_SW is overwritten with what all levels together leave over.
    """
    codebooks, codes = [], []
    for level, size in enumerate(level_sizes):
        result = kmeans(residual_SW, size, iterations=START_ROUNDS, seed=seed + level)
        _subtract(residual_SW, result.centroids_KD, result.assignment_N)
        codebooks.append(result.centroids_KD)
        codes.append(result.assignment_N)
    return codebooks, torch.stack(codes, dim=1)


def revive_dead_codes(residual_SW: Tensor, codebooks: list[Tensor], seed: int) -> list[Tensor]:
    """The codebooks, with codes that none of the rows takes moved onto rows that lie far from their own.

    As in `tokenizer.clustering.kmeans` the rows are drawn with probability proportional to the squared distance, so each
    moved code serves somebody. With fewer distinct rows than codes, codes stay unused. residual_SW is overwritten.
    """
    generator = torch.Generator().manual_seed(seed)
    revived = []
    for codebook_VW in codebooks:
        codebook_VW = codebook_VW.clone()
        codes_S, squared_S = nearest_centroids(residual_SW, codebook_VW)
        for _ in range(REVIVE_ROUNDS):
            dead = (torch.bincount(codes_S, minlength=len(codebook_VW)) == 0).nonzero().squeeze(1)
            rows = _draw_far_rows(squared_S, len(dead), generator)
            if not len(rows):
                break
            codebook_VW[dead[: len(rows)]] = residual_SW[rows]
            codes_S, squared_S = nearest_centroids(residual_SW, codebook_VW)
        _subtract(residual_SW, codebook_VW, codes_S)
        revived.append(codebook_VW)
    return revived


def _draw_far_rows(squared_S: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` different rows, drawn by squared distance (the smallest of exponential keys, Efraimidis-Spirakis)."""
    usable_S = squared_S > squared_S.max() * 1e-10  # below that it is rounding of a row that sits on its code
    count = min(count, int(usable_S.sum()))
    keys_S = torch.empty(len(squared_S), dtype=torch.float64).exponential_(generator=generator) / squared_S.double()
    return keys_S.masked_fill(~usable_S, torch.inf).topk(count, largest=False).indices


def _subtract(residual_SW: Tensor, codebook_VW: Tensor, codes_S: Tensor) -> None:
    for rows_RW, codes_R in zip(residual_SW.split(ROWS), codes_S.split(ROWS), strict=True):
        rows_RW -= codebook_VW[codes_R]
