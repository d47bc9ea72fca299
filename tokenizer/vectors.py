"""Helpers for blocks of item vectors: reading them from files, bringing rows to length one, reducing their width."""

from pathlib import Path

import numpy as np
from scipy import sparse

from tokenizer.checks import check_vectors
from tokenizer.errors import TokenizerError


def normalise_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean length, float32 [N,D]; zero rows stay zero."""
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    length_N1 = np.linalg.norm(vectors_ND.astype(np.float64), axis=1, keepdims=True)
    tiny = 1e-6 * length_N1.max(initial=0.0)  # shorter than this is rounding left over from a zero row
    return np.where(length_N1 > tiny, vectors_ND / np.where(length_N1 > tiny, length_N1, 1), 0).astype(np.float32)


def reduce_dimensions(matrix_NF: np.ndarray | sparse.csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """Truncated SVD, float32 [N, min(dimensions, N, F)]: rows of U times the singular values.

    When nothing has to be cut the SVD is exact and distances between rows are kept. The data are not centred, so sparse
    stays sparse and zero rows stay zero. The same seed gives the same result.
    """
    from sklearn.utils.extmath import randomized_svd

    width = min(dimensions, *matrix_NF.shape)
    if not matrix_NF.shape[1] or matrix_NF.min() == matrix_NF.max() == 0:
        return np.zeros((matrix_NF.shape[0], 1), dtype=np.float32)
    left_NW, singular_W, _ = randomized_svd(matrix_NF, width, n_iter=5, random_state=seed)
    return np.asarray(left_NW * singular_W, dtype=np.float32)


def read_vectors(path: Path, items: int) -> np.ndarray:
    """Vectors brought by the user, centred over the items, float32 [N,D].

    path: `.npy`, or `.safetensors` with exactly one array. Raises TokenizerError naming the file when it is missing,
    damaged, holds another number of rows than there are items, or holds NaN or infinity.
    """
    if not path.is_file():
        raise TokenizerError(f"{path}: not found; files of vectors lie beside the items table.")
    try:
        if path.suffix == ".npy":
            vectors = np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            vectors = _only_array(path)
        else:
            raise TokenizerError(
                f"{path}: vectors are read from .npy and .safetensors, not from {path.suffix or 'this'}."
            )
    except (ValueError, OSError, EOFError) as error:
        raise TokenizerError(f"{path}: cannot be read as an array ({error}).") from error
    if vectors.ndim == 2 and len(vectors) != items:
        raise TokenizerError(f"{path}: {len(vectors)} rows for {items} items; one row per item, in the table's order.")
    vectors_ND = check_vectors(vectors, what=str(path))
    # a direction that all embeddings share tells nothing about any of them; a single item keeps its vector
    return vectors_ND - vectors_ND.mean(axis=0, dtype=np.float64).astype(np.float32) if items > 1 else vectors_ND


def _only_array(path: Path) -> np.ndarray:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise TokenizerError(f"{path}: is not a readable safetensors file ({error}).") from error
    if len(arrays) != 1:
        raise TokenizerError(
            f"{path}: holds {len(arrays)} arrays ({', '.join(arrays) or 'none'}); exactly one is expected."
        )
    array = next(iter(arrays.values()))
    # NumPy has no bfloat16, which embeddings are often stored in
    return array.to(torch.float32).numpy() if array.is_floating_point() else array.numpy()
