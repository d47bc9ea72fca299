"""Residual codes: level by level the codebook row nearest to what the levels before it left over."""

import numpy as np
import torch

from tokenizer.kmeans import nearest_centroids


def encode_residual(latent_NW: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """Codes int32 [N,L] of rows [N,W] for codebooks of [V,W] rows each, chosen greedily.

    Scratch memory is bounded as in `tokenizer.kmeans.nearest_centroids`, beside one copy of the rows handed in: callers
    with many rows hand them in by parts.
    """
    residual_NW = torch.from_numpy(np.ascontiguousarray(latent_NW, dtype=np.float32))
    codes_NL = np.empty((len(residual_NW), len(codebooks)), dtype=np.int32)
    for level, codebook_VW in enumerate(map(torch.from_numpy, codebooks)):
        codes_N, _ = nearest_centroids(residual_NW, codebook_VW)
        residual_NW = residual_NW - codebook_VW[codes_N]
        codes_NL[:, level] = codes_N.numpy()
    return codes_NL


def sum_of_rows(codes_NL: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    """The sum over levels of the codebook rows that the codes name, float32 [N,W]."""
    total_NW = codebooks[0][codes_NL[:, 0]].astype(np.float32)
    for level, codebook_VW in enumerate(codebooks[1:], start=1):
        total_NW += codebook_VW[codes_NL[:, level]]
    return np.asarray(total_NW)
