"""Rotations under which blocks of columns can be quantized one by one with little loss (Ge et al. 2013).

"Optimized Product Quantization", T. Ge, K. He, Q. Ke, J. Sun, CVPR 2013 and TPAMI 36(4), 2014.
"""

import numpy as np

SMALLEST_SHARE = 1e-10  # of the largest eigenvalue; what is below counts as this much, so that its logarithm exists


def block_widths(width: int, level_sizes: list[int]) -> list[int]:
    """Columns per block, as equal as can be; with fewer columns than levels the last blocks are empty."""
    return [len(columns) for columns in np.array_split(np.arange(width), len(level_sizes))]


def balanced_rotation(covariance_DD: np.ndarray, level_sizes: list[int]) -> np.ndarray:
    """Principal directions dealt out to the blocks, float64 [D,D], orthonormal columns in the order of the blocks.

    Eigenvalue allocation (section 3.2 of the paper): from the largest eigenvalue down, each goes to the block, of those
    not yet full, whose product of eigenvalues is smallest. The bound that this minimises sums codes^(-2/d) * product^(1/d)
    over blocks of d columns, so where level sizes differ it is product / codes^2 that is kept even.
    """
    values_D, vectors_DD = np.linalg.eigh(covariance_DD)
    widths = block_widths(len(values_D), level_sizes)
    floor = max(float(values_D[-1]) * SMALLEST_SHARE, np.finfo(np.float64).tiny)
    bits_D = np.log(np.maximum(values_D, floor) / floor)  # zero or more, so that a block's sum grows with its columns
    load = [-2.0 * np.log(size) for size in level_sizes]
    chosen: list[list[int]] = [[] for _ in level_sizes]
    for column in range(len(values_D) - 1, -1, -1):
        open_blocks = [block for block, width in enumerate(widths) if len(chosen[block]) < width]
        block = min(open_blocks, key=lambda block: load[block])
        chosen[block].append(column)
        load[block] += float(bits_D[column])
    return np.asarray(vectors_DD[:, [column for block_columns in chosen for column in block_columns]])


def procrustes(moment_DD: np.ndarray) -> np.ndarray:
    """The rotation T, float64 [D,D], that minimises |Y T - Z| for given Y^T Z (orthogonal Procrustes problem)."""
    left_DD, _, right_DD = np.linalg.svd(moment_DD)
    return np.asarray(left_DD @ right_DD)
