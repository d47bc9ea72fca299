"""Operations on item vectors: normalise rows, reduce the width, read vectors from files."""

from pathlib import Path

import numpy as np
from scipy import sparse

from tokenizer.common.checks import check_vectors
from tokenizer.errors import TokenizerError

BLOCK_ROWS = 1 << 17
ROUNDING = 1e-6  # a row shorter than this share of the longest row is a zero row with rounding errors


def normalise_rows(vectors_ND: np.ndarray, shortest: float | None = None) -> np.ndarray:
    """Divide rows by their Euclidean length, float32 [N,D]; rows not longer than `shortest` become zero.

    shortest: by default ROUNDING times the longest of these rows. A fitted encoder passes the value from its fit, so that a
    row's result does not depend on the other rows.
    """
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    # Double precision for a block of rows at a time: for a million wide rows at once it would take gigabytes.
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(vectors_ND), BLOCK_ROWS)]
    length_N1 = np.empty((len(vectors_ND), 1))
    for rows in blocks:
        length_N1[rows] = np.linalg.norm(vectors_ND[rows].astype(np.float64), axis=1, keepdims=True)
    tiny = ROUNDING * length_N1.max(initial=0.0) if shortest is None else shortest
    unit_ND = np.empty_like(vectors_ND)
    for rows in blocks:
        length_R1 = length_N1[rows]
        unit_ND[rows] = np.where(length_R1 > tiny, vectors_ND[rows] / np.where(length_R1 > tiny, length_R1, 1), 0)
    return unit_ND


def reduce_dimensions(matrix_NF: np.ndarray | sparse.csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """Truncated SVD, float32 [N, min(dimensions, N, F)]: rows of U times the singular values.

    If no dimension is cut, the SVD is exact and keeps the distances between rows. The data are not centred, so a sparse
    matrix stays sparse and zero rows stay zero. The same seed gives the same result.
    """
    left_NW, singular_W, _ = _truncated_svd(matrix_NF, dimensions, seed)
    return np.asarray(left_NW * singular_W, dtype=np.float32)


def principal_directions(matrix_NF: np.ndarray | sparse.csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """The right singular vectors that `reduce_dimensions` keeps, float32 [F, min(dimensions, N, F)].

    `matrix @ directions` reduces these rows, and rows that are added later in the same way.
    """
    _, _, right_WF = _truncated_svd(matrix_NF, dimensions, seed)
    return np.ascontiguousarray(right_WF.T, dtype=np.float32)


def _truncated_svd(
    matrix_NF: np.ndarray | sparse.csr_matrix, dimensions: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.utils.extmath import randomized_svd

    rows, columns = matrix_NF.shape
    if not columns or matrix_NF.min() == matrix_NF.max() == 0:
        return np.zeros((rows, 1)), np.zeros(1), np.zeros((1, columns))
    left_NW, singular_W, right_WF = randomized_svd(
        matrix_NF, min(dimensions, rows, columns), n_iter=5, random_state=seed
    )
    return left_NW, singular_W, right_WF


def read_vectors(path: Path, items: int) -> np.ndarray:
    """Read the user's own vectors from a file, float32 [N,D].

    path: `.npy`, or `.safetensors` with exactly one array. Raises TokenizerError naming the file when it is missing or
    damaged, does not have one row per item, or holds NaN or infinity.
    """
    if not path.is_file():
        raise TokenizerError(f"{path}: not found; put files of vectors beside the items table.")
    try:
        if path.suffix == ".npy":
            vectors = np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            vectors = _only_array(path)
        else:
            raise TokenizerError(f"{path}: vectors can be read from .npy and .safetensors files only.")
    except (ValueError, OSError, EOFError) as error:
        raise TokenizerError(f"{path}: cannot be read as an array ({error}).") from error
    if vectors.ndim == 2 and len(vectors) != items:
        raise TokenizerError(
            f"{path}: {len(vectors)} rows for {items} items; give one row per item, in the order of the table."
        )
    return check_vectors(vectors, what=str(path))


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
            f"{path}: holds {len(arrays)} arrays ({', '.join(arrays) or 'none'}); it must hold exactly one."
        )
    array = next(iter(arrays.values()))
    # embeddings are often stored in bfloat16, which NumPy does not have
    return array.to(torch.float32).numpy() if array.is_floating_point() else array.numpy()
