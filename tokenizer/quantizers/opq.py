"""OPQ: after a learnt rotation, each level quantizes its own block of columns. Without the rotation it is plain PQ.

The codes of different levels are parallel: no level refines another. Product quantization is from Jegou, Douze and Schmid
(2011). The rotation is from Ge, He, Ke and Sun (2013, see `tokenizer.quantizers.rotation`): their non-parametric method,
started from their parametric solution.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Self

import numpy as np
from scipy import sparse

from tokenizer.clustering.kmeans import Clusters, lloyd
from tokenizer.clustering.nearest import nearest_rows
from tokenizer.common.checks import check_arrays, check_codes, check_level_sizes, check_vectors
from tokenizer.errors import TokenizerError
from tokenizer.quantizers.residual_kmeans import sample_rows
from tokenizer.quantizers.rotation import balanced_rotation, block_widths, procrustes
from tokenizer.quantizers.scaling import Scaling

START_ROWS, START_ROUNDS = 1 << 15, 3  # rows and rounds of k-means that decide between two initial rotations
MOST_ROWS = 1 << 16  # rows processed at once, at most


class OPQ:
    """Product quantizer: level l quantizes block l of the columns of x R, where x is scaled and R is a rotation.

    level_sizes: codes per level, may differ. Blocks have equal numbers of columns, up to one. With more levels than columns,
    the last levels have no column and use one code. rotation: learn R, or keep the columns unchanged. iterations: rounds of
    rotation, and then of k-means per block, at most. fit_rows: size of a random sample to fit on (None: all rows).
    """

    def __init__(
        self,
        level_sizes: list[int],
        *,
        rotation: bool = True,
        iterations: int = 25,
        fit_rows: int | None = None,
        seed: int = 0,
        memory_mib: int = 256,
    ) -> None:
        self.level_sizes = check_level_sizes(level_sizes)
        self.rotation = rotation
        self.iterations = iterations
        self.fit_rows = fit_rows
        self.seed = seed
        self.memory_mib = memory_mib
        self._scaling = Scaling(np.zeros(0, dtype=np.float32), np.ones(1, dtype=np.float32))
        self._rotation_DD = np.zeros((0, 0), dtype=np.float32)
        self._blocks: list[np.ndarray] = []  # codebooks without their zero columns, [V,d] per level

    def fit(self, x_ND: np.ndarray) -> Self:
        """Learn scale, rotation and codebooks from [N,D] vectors; TokenizerError for NaN, infinity or no rows.

        The fitted rows are held once as float32; the rotation and its moments are D x D.
        """
        x_ND = sample_rows(check_vectors(x_ND), self.fit_rows, self.seed)
        self._scaling = Scaling.of(x_ND)
        self._rotation_DD = np.eye(x_ND.shape[1], dtype=np.float32)
        if self.rotation:
            self._choose_start(sample_rows(x_ND, START_ROWS, self.seed))
            turn_DD = self._alternate(self._rotated_blocks(x_ND))
            self._rotation_DD = np.asarray(self._rotation_DD @ turn_DD, dtype=np.float32)
        # Rotate in one step as `encode` does: the rounding of many steps could take the last rows from rare codes.
        results = self._fit_blocks(self._rotated_blocks(x_ND), self.iterations)
        self._blocks = [result.centroids_KD for result in results]
        return self

    def _choose_start(self, x_ND: np.ndarray) -> None:
        """Start from the balanced principal directions, or from the unrotated columns if k-means has a lower error there.

        The principal directions are optimal for normal data. On vectors with clusters, such as text, they can mix clusters.
        """
        starts = (balanced_rotation(self._covariance(x_ND), self.level_sizes).astype(np.float32), self._rotation_DD)
        errors = []
        for rotation_DD in starts:
            self._rotation_DD = rotation_DD
            results = self._fit_blocks(self._rotated_blocks(x_ND), iterations=START_ROUNDS)
            errors.append(sum(result.inertia for result in results))
        self._rotation_DD = starts[int(np.argmin(errors))]

    def _covariance(self, x_ND: np.ndarray) -> np.ndarray:
        """Covariance of the scaled rows, float64 [D,D]."""
        total_DD = np.zeros((x_ND.shape[1], x_ND.shape[1]))
        for start, end in self._parts(*x_ND.shape):
            part_RD = self._scaling.apply(x_ND[start:end])
            total_DD += part_RD.T @ part_RD
        return total_DD / len(x_ND)

    def _rotated_blocks(self, x_ND: np.ndarray) -> list[np.ndarray]:
        """The scaled and rotated rows, divided into one array [N,d] per level."""
        blocks = [
            np.empty((len(x_ND), width), dtype=np.float32) for width in block_widths(x_ND.shape[1], self.level_sizes)
        ]
        for start, end in self._parts(*x_ND.shape):
            _write(blocks, start, end, self._scaling.apply(x_ND[start:end]) @ self._rotation_DD)
        return blocks

    def _fit_blocks(self, blocks: list[np.ndarray], iterations: int) -> list[Clusters]:
        return [
            lloyd(block_Nd, size, iterations=iterations, seed=self.seed + level)
            for level, (block_Nd, size) in enumerate(zip(blocks, self.level_sizes, strict=True))
        ]

    def _alternate(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Alternate rounds of k-means and Procrustes rotations; rotate the rows in place and return the total rotation [D,D].

        For rows Y and their decoded codes Z, Y^T Z is the sum of Y per code times the codebook, so Z is never built.
        """
        ends = list(accumulate(block_Nd.shape[1] for block_Nd in blocks))
        total_DD, turn_DD = np.eye(ends[-1]), np.eye(ends[-1], dtype=np.float32)
        codebooks = [result.centroids_KD for result in self._fit_blocks(blocks, iterations=1)]
        for _ in range(self.iterations):
            sums, loads = self._turn_and_sum(blocks, codebooks, turn_DD)
            moments = []
            for level, end in enumerate(ends):
                used = loads[level] > 0
                own = slice(end - blocks[level].shape[1], end)
                codebooks[level][used] = sums[level][used, own] / loads[level][used, None]
                moments.append(sums[level].T @ codebooks[level])
            step_DD = procrustes(np.concatenate(moments, axis=1))
            total_DD = total_DD @ step_DD
            turn_DD = step_DD.astype(np.float32)
        self._turn_and_sum(blocks, codebooks, turn_DD)
        return total_DD

    def _turn_and_sum(
        self, blocks: list[np.ndarray], codebooks: list[np.ndarray], turn_DD: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Rotate the rows in place. Return for each level the sums of whole rows per code, float64 [V,D], and counts [V]."""
        sums = [np.zeros((size, len(turn_DD))) for size in self.level_sizes]
        loads = [np.zeros(size) for size in self.level_sizes]
        for start, end in self._parts(len(blocks[0]), len(turn_DD)):
            row_RD = np.concatenate([block_Nd[start:end] for block_Nd in blocks], axis=1) @ turn_DD
            _write(blocks, start, end, row_RD)
            for level, size in enumerate(self.level_sizes):
                codes_R = nearest_rows(blocks[level][start:end], codebooks[level])
                ones_R, shape = np.ones(end - start, dtype=np.float32), (size, end - start)
                sums[level] += sparse.csr_matrix((ones_R, (codes_R, np.arange(end - start))), shape) @ row_RD
                loads[level] += np.bincount(codes_R, minlength=size)
        return sums, loads

    def encode(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes int32 [N,L] of vectors [N,D]: the nearest codebook row in each block."""
        x_ND = self._checked(x_ND)
        codes_NL = np.empty((len(x_ND), len(self.level_sizes)), dtype=np.int32)
        for start, end in self._parts(*x_ND.shape):
            blocks = self._rotated_blocks(x_ND[start:end])
            for level, (block_Rd, codebook_Vd) in enumerate(zip(blocks, self._blocks, strict=True)):
                codes_NL[start:end, level] = nearest_rows(block_Rd, codebook_Vd)
        return codes_NL

    def encode_new(self, x_ND: np.ndarray) -> np.ndarray:
        """Codes of items that join later: the same as `encode`."""
        return self.encode(x_ND)

    def decode(self, codes_NL: np.ndarray) -> np.ndarray:
        """Vectors float32 [N,D] that the codes represent."""
        self._check_fitted()
        codes_NL = check_codes(codes_NL, self.level_sizes)
        x_ND = np.empty((len(codes_NL), len(self._rotation_DD)), dtype=np.float32)
        for start, end in self._parts(*x_ND.shape):
            rows = [block_Vd[codes_NL[start:end, level]] for level, block_Vd in enumerate(self._blocks)]
            x_ND[start:end] = self._scaling.undo(np.concatenate(rows, axis=1) @ self._rotation_DD.T)
        return x_ND

    def latent(self, x_ND: np.ndarray) -> np.ndarray:
        """Scaled and rotated vectors float32 [N,D]: the space in which codebook rows add up."""
        x_ND = self._checked(x_ND)
        latent_ND = np.empty(x_ND.shape, dtype=np.float32)
        for start, end in self._parts(*x_ND.shape):
            latent_ND[start:end] = self._scaling.apply(x_ND[start:end]) @ self._rotation_DD
        return latent_ND

    @property
    def codebooks(self) -> list[np.ndarray]:
        """One float32 [V,D] array per level; columns of other blocks are zero."""
        self._check_fitted()
        width = len(self._rotation_DD)
        ends = accumulate(block_Vd.shape[1] for block_Vd in self._blocks)
        return [
            np.pad(block_Vd, ((0, 0), (end - block_Vd.shape[1], width - end)))
            for block_Vd, end in zip(self._blocks, ends, strict=True)
        ]

    def config(self) -> dict[str, Any]:
        """Settings as plain JSON values."""
        return {
            "level_sizes": self.level_sizes,
            "rotation": self.rotation,
            "iterations": self.iterations,
            "fit_rows": self.fit_rows,
            "seed": self.seed,
            "memory_mib": self.memory_mib,
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Mean, scale, rotation (if one was learnt) and the codebooks of the blocks as named arrays."""
        state = {"mean": self._scaling.mean_D, "scale": self._scaling.scale}
        if self.rotation:
            state["rotation"] = self._rotation_DD
        return state | {f"codebook_{level + 1}": block_Vd for level, block_Vd in enumerate(self._blocks)}

    @classmethod
    def load(cls, config: dict[str, Any], state: dict[str, np.ndarray]) -> Self:
        """Restore from `config()` and `state_dict()`; TokenizerError names an array that is missing or has a wrong shape."""
        quantizer = cls(**config)
        width = state["mean"].shape[-1] if "mean" in state and state["mean"].ndim else 0
        widths = block_widths(width, quantizer.level_sizes)
        expected: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (1,)}
        expected |= {"rotation": (width, width)} if quantizer.rotation else {}
        shapes = zip(quantizer.level_sizes, widths, strict=True)
        expected |= {f"codebook_{level + 1}": shape for level, shape in enumerate(shapes)}
        arrays = check_arrays("OPQ", state, expected)
        quantizer._scaling = Scaling(arrays["mean"], arrays["scale"])
        quantizer._rotation_DD = arrays.get("rotation", np.eye(width, dtype=np.float32))
        quantizer._blocks = [arrays[f"codebook_{level + 1}"] for level in range(len(widths))]
        return quantizer

    def _check_fitted(self) -> None:
        if not self._blocks:
            raise TokenizerError("this OPQ has not been fitted; call fit first, or load a saved artefact.")

    def _checked(self, x_ND: np.ndarray) -> np.ndarray:
        self._check_fitted()
        return check_vectors(x_ND, width=len(self._rotation_DD))

    def _parts(self, rows: int, width: int) -> Iterator[tuple[int, int]]:
        """Starts and ends of chunks of rows; four float32 copies of a chunk fit into half of memory_mib."""
        step = min(MOST_ROWS, max(1, (self.memory_mib << 19) // (16 * width)))
        return ((start, min(start + step, rows)) for start in range(0, rows, step))


def _write(blocks: list[np.ndarray], start: int, end: int, row_RD: np.ndarray) -> None:
    """Divide rows by columns and store the parts in the blocks."""
    ends = list(accumulate(block_Nd.shape[1] for block_Nd in blocks))
    for block_Nd, part_Rd in zip(blocks, np.split(row_RD, ends[:-1], axis=1), strict=True):
        block_Nd[start:end] = part_Rd
