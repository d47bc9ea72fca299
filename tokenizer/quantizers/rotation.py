"""Rotations after which blocks of columns can be quantized separately with little loss (Ge et al. 2013).

"Optimized Product Quantization", T. Ge, K. He, Q. Ke, J. Sun, CVPR 2013 and TPAMI 36(4), 2014.
"""

import numpy as np

SMALLEST_SHARE = 1e-10  # smaller eigenvalues count as this share of the largest, so that logarithms exist


def block_widths(width: int, level_sizes: list[int]) -> list[int]:
    """Columns per block, equal up to one; with fewer columns than levels, the last blocks are empty."""
    return [len(columns) for columns in np.array_split(np.arange(width), len(level_sizes))]


def balanced_rotation(covariance_DD: np.ndarray, level_sizes: list[int]) -> np.ndarray:
    """Assign principal directions to the blocks: float64 [D,D], orthonormal columns in the order of the blocks.

    This is the eigenvalue allocation of the paper (section 3.2): from the largest down, each eigenvalue goes to the block with
    the smallest product of eigenvalues among those not yet full. It minimises a bound, the sum of codes^(-2/d) * product^(1/d)
    over blocks of d columns. So with different level sizes, product / codes^2 is balanced.
    """
    values_D, vectors_DD = np.linalg.eigh(covariance_DD)
    widths = block_widths(len(values_D), level_sizes)
    floor = max(float(values_D[-1]) * SMALLEST_SHARE, np.finfo(np.float64).tiny)
    bits_D = np.log(np.maximum(values_D, floor) / floor)  # not negative, so that a block's sum grows with its columns
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
