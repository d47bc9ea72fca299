"""Initial residual codebooks by k-means, and the repair of dead codes after training."""

import torch
from torch import Tensor

from tokenizer.clustering.kmeans import lloyd
from tokenizer.clustering.nearest import nearest_rows, squared_distances

START_ROUNDS = 10  # iterations of k-means for the initial codebooks, which training then changes
REVIVE_ROUNDS = 20  # a moved code may take the only row of another; in practice a few rounds suffice
ROWS = 1 << 14  # rows processed at once


def start_codebooks(residual_SW: Tensor, level_sizes: list[int], seed: int) -> tuple[list[Tensor], Tensor]:
    """k-means on the rows, then on their residuals, level by level: codebooks [V,W] and the rows' codes int64 [S,L].

    residual_SW is overwritten with the residual after all levels.
    """
    codebooks, codes = [], []
    for level, size in enumerate(level_sizes):
        result = lloyd(residual_SW.numpy(), size, iterations=START_ROUNDS, seed=seed + level)
        codebooks.append(torch.from_numpy(result.centroids_KD))
        codes.append(torch.from_numpy(result.assignment_N))
        _subtract(residual_SW, codebooks[-1], codes[-1])
    return codebooks, torch.stack(codes, dim=1)


def revive_dead_codes(residual_SW: Tensor, codebooks: list[Tensor], seed: int) -> list[Tensor]:
    """The codebooks after codes that no row uses have moved onto rows far from their own code.

    As in `tokenizer.clustering.kmeans`, rows are drawn with probability proportional to the squared distance, so each moved
    code serves at least one row. With fewer distinct rows than codes, some codes stay unused. residual_SW is overwritten.
    """
    generator = torch.Generator().manual_seed(seed)
    revived = []
    for codebook_VW in codebooks:
        codebook_VW = codebook_VW.clone()
        codes_S, squared_S = _nearest_codes(residual_SW, codebook_VW)
        for _ in range(REVIVE_ROUNDS):
            dead = (torch.bincount(codes_S, minlength=len(codebook_VW)) == 0).nonzero().squeeze(1)
            rows = _draw_far_rows(squared_S, len(dead), generator)
            if not len(rows):
                break
            codebook_VW[dead[: len(rows)]] = residual_SW[rows]
            codes_S, squared_S = _nearest_codes(residual_SW, codebook_VW)
        _subtract(residual_SW, codebook_VW, codes_S)
        revived.append(codebook_VW)
    return revived


def _nearest_codes(residual_SW: Tensor, codebook_VW: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest code of each row, int64 [S], and the squared distance to it, float32 [S]."""
    codes_S = nearest_rows(residual_SW.numpy(), codebook_VW.numpy())
    squared_S = squared_distances(residual_SW.numpy(), codebook_VW.numpy(), codes_S)
    return torch.from_numpy(codes_S), torch.from_numpy(squared_S)


def _draw_far_rows(squared_S: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to `count` different rows by squared distance (smallest exponential keys, Efraimidis and Spirakis)."""
    usable_S = squared_S > squared_S.max() * 1e-10  # a smaller distance is the rounding error of a row on its code
    count = min(count, int(usable_S.sum()))
    keys_S = torch.empty(len(squared_S), dtype=torch.float64).exponential_(generator=generator) / squared_S.double()
    return keys_S.masked_fill(~usable_S, torch.inf).topk(count, largest=False).indices


def _subtract(residual_SW: Tensor, codebook_VW: Tensor, codes_S: Tensor) -> None:
    for rows_RW, codes_R in zip(residual_SW.split(ROWS), codes_S.split(ROWS), strict=True):
        rows_RW -= codebook_VW[codes_R]
