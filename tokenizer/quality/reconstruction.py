"""How well codes reconstruct the vectors, with all levels and after each level."""

import numpy as np

from tokenizer.clustering.nearest import row_chunks

CHUNK_ELEMENTS = 1 << 21  # float64 values processed at once; 16 MiB


def reconstruction(vectors_ND: np.ndarray, decoded_ND: np.ndarray) -> dict[str, float]:
    """Mean squared length of the reconstruction error, and its share of the variance of the vectors.

    The share is 0 for perfect codes and 1 for codes that give only the mean. For vectors without variance it is 0 if nothing
    is lost. The error depends on the scale of the vectors, so compare it only for the same vectors.
    """
    error = sum(
        float(np.square(np.subtract(vectors_ND[rows], decoded_ND[rows], dtype=np.float64)).sum())
        for rows in row_chunks(len(vectors_ND), vectors_ND.shape[1], CHUNK_ELEMENTS)
    ) / len(vectors_ND)
    return {"mean_squared_error": error, "share_of_variance": _share_of_variance(error, vectors_ND)}


def lost_by_level(latent_NW: np.ndarray, codebooks: list[np.ndarray], codes_NQ: np.ndarray) -> list[float]:
    """Share of the variance that the first 1, 2 … Q codes do not explain, in the space where codebook rows add up.

    For quantizers of the vectors themselves (the k-means family) the last entry is the share of `reconstruction`. For
    autoencoders the figures refer to the latent space, without the decoder.
    """
    error_L = np.zeros(len(codebooks))
    for rows in row_chunks(len(latent_NW), latent_NW.shape[1], CHUNK_ELEMENTS):
        residual_RW = np.array(latent_NW[rows], dtype=np.float64)
        for level, codebook_VW in enumerate(codebooks):
            residual_RW -= codebook_VW[codes_NQ[rows, level]]
            error_L[level] += np.square(residual_RW).sum()
    return [_share_of_variance(float(error) / len(latent_NW), latent_NW) for error in error_L]


def _share_of_variance(error: float, vectors_ND: np.ndarray) -> float:
    """Mean squared error / variance. If the variance is only rounding error: 0 if nothing is lost, otherwise 1."""
    mean_D = vectors_ND.mean(axis=0, dtype=np.float64)
    chunks = row_chunks(len(vectors_ND), vectors_ND.shape[1], CHUNK_ELEMENTS)
    variance = sum(float(np.square(vectors_ND[rows] - mean_D).sum()) for rows in chunks) / len(vectors_ND)
    scale = variance + float(mean_D @ mean_D)
    if variance <= 1e-12 * scale:  # identical rows
        return 0.0 if error <= 1e-9 * scale else 1.0
    return error / variance
